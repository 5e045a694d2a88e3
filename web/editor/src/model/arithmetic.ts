/** What a person types into a number field: "1,5", "512*2", "2^10 - 1", "=64/3". Undefined for what is no calculation. */

export function calculate(text: string): number | undefined {
  const source = text.normalize("NFKC").trim().replace(/^=/, "").replace(/(\d),(\d)/g, "$1.$2").replace(/\s+/g, "");
  if (!source || source.length > 200) return undefined;
  let at = 0;
  let depth = 0;
  const sum = (): number => {
    let value = product();
    while (source[at] === "+" || source[at] === "-") value = source[at++] === "+" ? value + product() : value - product();
    return value;
  };
  const product = (): number => {
    let value = power();
    while (source[at] === "*" || source[at] === "/" || source[at] === "%") {
      const sign = source[at++];
      const right = power();
      value = sign === "*" ? value * right : sign === "/" ? value / right : value % right;
    }
    return value;
  };
  const power = (): number => {
    if (source[at] === "-") {
      at++;
      return -power();
    }
    if (source[at] === "+") at++;
    const base = atom();
    if (source[at] !== "^") return base;
    at++;
    return base ** power();
  };
  const atom = (): number => {
    if (source[at] === "(" && depth++ < 50) {
      at++;
      const value = sum();
      if (source[at++] !== ")") return NaN;
      depth--;
      return value;
    }
    const number = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i.exec(source.slice(at));
    if (!number) return NaN;
    at += number[0].length;
    return Number(number[0]);
  };
  const value = sum();
  return at === source.length && Number.isFinite(value) ? value : undefined;
}

/** The nearest value that the bounds allow; a value between two steps is fine. */
export function clamp(value: number, min = -Infinity, max = Infinity): number {
  return Math.min(Math.max(value, min), max);
}

/** Without the noise of binary fractions: 0.1 + 0.2 is 0.3. */
export function tidy(value: number): number {
  return Number(value.toPrecision(12));
}
