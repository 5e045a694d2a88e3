import { describe, expect, it } from "vitest";

import { carried, carry } from "./dragged";

function transfer(): Pick<DataTransfer, "setData" | "getData"> {
  const data = new Map<string, string>();
  return { setData: (type, value) => void data.set(type, value), getData: (type) => data.get(type) ?? "" };
}

describe("dragged", () => {
  it("arrives as what was taken, from every folder", () => {
    for (const [folder, name, media_type] of [["temp", "a/b_00001.png", "image/png"], ["input", "violin.wav", "audio/wav"], ["output", "waves.mp4", "video/mp4"]] as const) {
      const data = transfer();
      carry(data, { folder, name, media_type }, "http://here/x");
      expect(carried(data)).toMatchObject({ folder, name, media_type });
    }
  });
  it("is nothing where something else is dropped", () => expect(carried(transfer())).toBeUndefined());
});
