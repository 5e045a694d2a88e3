/** Media: a file of the server as a picture, a player, a film or a text. */

import { useEffect, useState } from "react";

import { address } from "../../api/http";
import { useT } from "../../i18n/t";
import { carry } from "../../state/dragged";
import type { FileRef } from "../../state/run";
import { screen } from "../../state/screen";
import { Film } from "./Film";
import { Sound } from "./Sound";
import { Text } from "./Text";

export function urlOf(file: { folder: string; name: string }): string {
  return address("/api/v1/files/{folder}/{name}", { folder: file.folder, name: file.name });
}

/** The same in a form that every browser shows. */
export function playableOf(file: { folder: string; name: string }): string {
  return address("/api/v1/playable/{folder}/{name}", { folder: file.folder, name: file.name });
}

/** Where to take a file from: what the browser cannot show is asked for in another form, once. */
export function useShowable(file: { folder: string; name: string; url?: string }): { url: string; broken: boolean; made: boolean; onBroken: () => void } {
  const [tries, setTries] = useState(0);
  const last = file.url ? 1 : 2;
  return { url: file.url ?? (tries ? playableOf(file) : urlOf(file)), broken: tries >= last, made: tries > 0 && !file.url, onBroken: () => setTries(tries + 1) };
}

export function kindOf(file: { media_type: string; name: string }): "image" | "audio" | "video" | "text" | "other" {
  const kind = file.media_type.split("/")[0];
  if (kind === "image" || kind === "audio" || kind === "video" || kind === "text") return kind;
  return /\.(json|txt|md|srt|csv)$/.test(file.name) ? "text" : "other";
}

export function Media({ file, small, group }: { file: FileRef; small?: boolean; group?: FileRef[] }) {
  const t = useT();
  const { url, broken, made, onBroken } = useShowable(file);
  const told = made ? t("media.made", { name: file.name }) : undefined;
  const open = (event: React.MouseEvent): void => {
    event.stopPropagation();
    const files = group ?? [file];
    screen.patch({ viewing: { files, index: Math.max(0, files.indexOf(file)) } });
  };
  const drag = (event: React.DragEvent): void => {
    if (file.url) return event.preventDefault(); // a value of a run, which no document can name
    carry(event.dataTransfer, file, new URL(url, location.href).href);
  };
  if (broken) {
    return <a className="broken nodrag" href={urlOf(file)} download>{t("media.broken", { name: file.name })}</a>;
  }
  switch (kindOf(file)) {
    case "image":
      return <img className="picture nodrag" src={small && !made ? address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: 128 }) : url} alt={file.name} title={told} draggable onDragStart={drag} onClick={small ? undefined : open} onError={onBroken} loading="lazy" decoding="async" />;
    case "video":
      if (small) return <img className="picture" src={address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: 128 })} alt={file.name} loading="lazy" onError={onBroken} />;
      return <Film key={url} url={url} name={file.name} fps={file.fps} note={told} onBroken={onBroken} onOpen={group && open} onDrag={drag} />;
    case "audio":
      return small ? <span className="quiet">♪ {file.name}</span> : <Sound key={url} url={url} name={file.name} note={told} onBroken={onBroken} onOpen={group && open} onDrag={drag} />;
    case "text":
      return <Remote url={url} json={file.name.endsWith(".json")} csv={file.name.endsWith(".csv")} />;
    default:
      return <a className="broken nodrag" href={url} download>{file.name}</a>;
  }
}

const SHOWN_BYTES = 200_000;

function Remote({ url, json, csv }: { url: string; json: boolean; csv: boolean }) {
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
  return <Text text={csv && text.length >= SHOWN_BYTES ? text.slice(0, text.lastIndexOf("\n")) : text} json={json} csv={csv} />;
}
