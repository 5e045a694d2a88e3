/** Dragged: a file of the server on its way from where it is shown to where it is dropped. */

import type { Picture } from "./screen";

/** Its name, as a document has it. */
export const DRAG_TYPE = "application/x-anyloom-file";
const MEDIA_TYPE = "application/x-anyloom-media-type";

/** As a document names a file: those of the input folder by their name alone. */
export function nameOf(file: Picture): string {
  return file.folder === "input" ? file.name : `${file.folder}/${file.name}`;
}

export function refOf(value: string, media_type = ""): Picture & { media_type: string; bytes: number } {
  const found = /^(output|temp|input)\/(.+)$/.exec(value);
  return { folder: found?.[1] ?? "input", name: found?.[2] ?? value, media_type, bytes: 0 };
}

export function carry(transfer: Pick<DataTransfer, "setData">, file: Picture & { media_type: string }, url: string): void {
  transfer.setData(DRAG_TYPE, nameOf(file));
  transfer.setData(MEDIA_TYPE, file.media_type);
  transfer.setData("text/uri-list", url);
}

export function carried(transfer: Pick<DataTransfer, "getData">): ReturnType<typeof refOf> | undefined {
  const name = transfer.getData(DRAG_TYPE);
  return name ? refOf(name, transfer.getData(MEDIA_TYPE)) : undefined;
}
