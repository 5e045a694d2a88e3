import { describe, expect, it } from "vitest";

import { asTable, fromCsv, numbersIn, sorted } from "./table";

describe("tables", () => {
  it("are seen in every form that results have", () => {
    const wanted = { columns: ["city", "people"], rows: [["Aba", 12], ["Ulm", null]] };
    expect(asTable({ columns: ["city", "people"], rows: [["Aba", 12], ["Ulm", null]] })).toEqual(wanted);
    expect(asTable([{ city: "Aba", people: 12 }, { city: "Ulm", people: null }])).toEqual(wanted);
    expect(asTable([["city", "people"], ["Aba", 12], ["Ulm", null]])).toEqual(wanted);
    expect(asTable({ city: ["Aba", "Ulm"], people: [12, null] })).toEqual(wanted);
    expect(asTable([[1, 2], [3, 4]])).toEqual({ columns: ["1", "2"], rows: [[1, 2], [3, 4]] });
    expect(asTable([5, 6, 7])?.rows).toEqual([[0, 5], [1, 6], [2, 7]]);
  });

  it("are not seen where there are none", () => {
    for (const value of [null, 3, "a", [], {}, [1, "a"], { a: 1 }, { a: [1], b: [2] }, [[1], [2, 3]], { columns: ["a"], rows: [[1, 2]] }]) expect(asTable(value)).toBeUndefined();
  });

  it("are read from separated values", () => {
    expect(fromCsv('name,"a ""b"", c"\r\nx,1.5\r\n"two\nlines",-3e2\r\n')).toEqual({ columns: ["name", 'a "b", c'], rows: [["x", 1.5], ["two\nlines", -300]] });
    expect(fromCsv("a;b\n1,5;2\n")).toEqual({ columns: ["a", "b"], rows: [["1,5", 2]] });
    expect(fromCsv("just words\nand more")).toBeUndefined();
    expect(fromCsv("")).toBeUndefined();
  });

  it("are sorted by size or as people count, with what is empty last", () => {
    const rows = [["a10", 3], ["a9", null], ["a1", -2]];
    expect(sorted(rows, 0, false).map(([name]) => name)).toEqual(["a1", "a9", "a10"]);
    expect(sorted(rows, 1, false).map(([, value]) => value)).toEqual([-2, 3, null]);
    expect(sorted(rows, 1, true).map(([, value]) => value)).toEqual([3, -2, null]);
    expect(numbersIn({ columns: ["name", "value"], rows })).toEqual([1]);
  });
});
