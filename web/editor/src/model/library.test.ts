import { expect, test } from "vitest";

import { byUse, folders, used, weight, type Uses } from "./library";

const DAY = 24 * 3600 * 1000;
const named = (...names: string[]): { name: string }[] => names.map((name) => ({ name }));

test("names with / are folders", () => {
  const root = folders(named("b", "work/z", "a10", "a2", "work/old/x", "other/y"));
  expect(root.entries.map((one) => one.name)).toEqual(["a2", "a10", "b"]);
  expect(root.folders.map((folder) => [folder.name, folder.entries.map((one) => one.name), folder.folders.map((inner) => inner.name)])).toEqual([["other", ["other/y"], []], ["work", ["work/z"], ["old"]]]);
});

test("what is used much comes first, and is forgotten by and by", () => {
  let uses: Uses = {};
  for (let day = 0; day < 5; day++) uses = used(uses, "often", day * DAY);
  uses = used(uses, "once", 5 * DAY);
  const list = named("a", "b", "once", "often");
  expect(byUse(list, uses, 5 * DAY).map((one) => one.name)).toEqual(["often", "once", "a", "b"]);
  expect(weight(uses["often"], 5 * DAY)).toBeLessThan(5);
  for (let day = 0; day < 4; day++) uses = used(uses, "new", (100 + day) * DAY);
  expect(byUse(list.concat(named("new")), uses, 104 * DAY)[0]!.name).toBe("new");
});

test("no more are kept than are useful", () => {
  let uses: Uses = { kept: { count: 9, at: 0 } };
  for (let count = 0; count < 500; count++) uses = used(uses, `w${count}`, 0);
  expect(Object.keys(uses)).toHaveLength(200);
  expect(uses["kept"]).toBeDefined();
});
