import { describe, expect, it } from "vitest";

import { dumpJson, parseJson } from "./json";

describe("JSON with large whole numbers", () => {
  it("keeps them to the last digit, and takes fractions for what they are", () => {
    const text = '{"seed":18446744073709551615,"low":-9007199254740993,"mean":0.20000000298023224,"small":1.2345678901234567e-30,"text":"12345678901234567890 \\"0.1"}';
    const value = parseJson(text) as Record<string, unknown>;
    expect(value["seed"]).toBe(18446744073709551615n);
    expect(value["low"]).toBe(-9007199254740993n);
    expect(value["mean"]).toBe(0.20000000298023224);
    expect(value["small"]).toBe(1.2345678901234567e-30);
    expect(value["text"]).toBe('12345678901234567890 "0.1');
    expect(parseJson(dumpJson(value))).toEqual(value);
    expect(() => parseJson("[0.12345678901234567890")).toThrow(SyntaxError);
  });
});
