/** Media: a file of the server as a picture, a player, a film or a text. */

import { useEffect, useState } from "react";

import { address } from "../../api/http";
import { useT } from "../../i18n/t";
import type { FileRef } from "../../state/run";
import { screen } from "../../state/screen";
import { Film } from "./Film";
import { Sound } from "./Sound";
import { Text } from "./Text";

export function urlOf(file: { folder: string; name: string }): string {
  return address("/api/v1/files/{folder}/{name}", { folder: file.folder, name: file.name });
}

export function kindOf(file: { media_type: string; name: string }): "image" | "audio" | "video" | "text" | "other" {
  const kind = file.media_type.split("/")[0];
  if (kind === "image" || kind === "audio" || kind === "video" || kind === "text") return kind;
  return /\.(json|txt|md|srt|csv)$/.test(file.name) ? "text" : "other";
}

export function Media({ file, small, group }: { file: FileRef; small?: boolean; group?: FileRef[] }) {
  const t = useT();
  const [broken, setBroken] = useState(false);
  const url = urlOf(file);
  const open = (event: React.MouseEvent): void => {
    event.stopPropagation();
    const files = group ?? [file];
    screen.patch({ viewing: { files, index: Math.max(0, files.indexOf(file)) } });
  };
  const drag = (event: React.DragEvent): void => {
    event.dataTransfer.setData("application/x-anyloom-file", file.folder === "input" ? file.name : `${file.folder}/${file.name}`);
    event.dataTransfer.setData("text/uri-list", new URL(url, location.href).href);
  };
  if (broken) {
    return <a className="broken nodrag" href={url} download>{t("media.broken", { name: file.name })}</a>;
  }
  switch (kindOf(file)) {
    case "image":
      return <img className="picture nodrag" src={small ? address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: 128 }) : url} alt={file.name} draggable onDragStart={drag} onClick={small ? undefined : open} onError={() => setBroken(true)} loading="lazy" decoding="async" />;
    case "video":
      if (small) return <img className="picture" src={address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: 128 })} alt={file.name} loading="lazy" onError={() => setBroken(true)} />;
      return <Film url={url} name={file.name} fps={file.fps} onBroken={() => setBroken(true)} onOpen={group && open} />;
    case "audio":
      return small ? <span className="quiet">♪ {file.name}</span> : <Sound url={url} name={file.name} onBroken={() => setBroken(true)} onOpen={group && open} />;
    case "text":
      return <Remote url={url} json={file.name.endsWith(".json")} />;
    default:
      return <a className="broken nodrag" href={url} download>{file.name}</a>;
  }
}

const SHOWN_BYTES = 200_000;

function Remote({ url, json }: { url: string; json: boolean }) {
  const [text, setText] = useState("");
  useEffect(() => {
    let gone = false;
    fetch(url, { headers: { Range: `bytes=0-${SHOWN_BYTES}` } })
      .then((answer) => (answer.ok ? answer.text() : ""))
      .then((found) => gone || setText(found))
      .catch(() => undefined);
    return () => {
      gone = true;
    };
  }, [url]);
  return <Text text={text} json={json} />;
}
