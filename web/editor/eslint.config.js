import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(...tseslint.configs.strict, {
  files: ["src/**/*.{ts,tsx}"],
  plugins: { "react-hooks": hooks },
  rules: {
    "react-hooks/rules-of-hooks": "error",
    "react-hooks/exhaustive-deps": "error",
    "no-restricted-properties": ["error", { object: "window", property: "eval" }],
    "no-restricted-syntax": [
      "error",
      { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Text from a document is never HTML." },
      { selector: "AssignmentExpression[left.property.name='innerHTML']", message: "Text from a document is never HTML." },
    ],
    "@typescript-eslint/no-non-null-assertion": "off",
    "@typescript-eslint/no-dynamic-delete": "off",
  },
});
