/** Wire: a value that the server holds, looked at: media as they are, tables, and tensors as strips of their numbers. */

import "../../style/table.css";

import { Suspense, useEffect, useMemo, useRef, useState } from "react";

import { address, ApiError, get } from "../../api/http";
import { useT } from "../../i18n/t";
import { facts, place, short, twoSided, type Digest, type TensorDigest } from "../../model/digest";
import { colour } from "../../model/spectrum";
import type { FileRef } from "../../state/run";
import { Media } from "./Media";
import TableView from "./TableView";
import { Text, Value } from "./Text";

export interface WireRef {
  artifact: string;
  port: number;
  /** of a list output, what one call gets */
  item?: number;
}

const MEDIA_TYPES = { image: "image/png", audio: "audio/wav", video: "video/mp4" };
const known = new Map<string, Promise<Digest>>();
const KEPT = 200;

/** Asked once: what lies under a key never changes. */
function digestOf({ artifact, port, item }: WireRef): Promise<Digest> {
  const key = `${artifact} ${port} ${item ?? ""}`;
  let found = known.get(key);
  if (!found) {
    found = get<{ value: Digest }>("/api/v1/artifacts/{key}/{port}", { key: artifact, port: String(port) }, { format: "digest", item }).then((answer) => answer.value);
    found.catch(() => known.delete(key));
    known.set(key, found);
    if (known.size > KEPT) known.delete(known.keys().next().value!);
  }
  return found;
}

export default function Wire({ wire, name }: { wire: WireRef; name: string }) {
  const t = useT();
  const [found, setFound] = useState<Digest | string>();
  const { artifact, port, item } = wire;
  useEffect(() => {
    let gone = false;
    digestOf({ artifact, port, item }).then((digest) => gone || setFound(digest)).catch((error: unknown) => gone || setFound(error instanceof ApiError ? error.problem.message : String(error)));
    return () => {
      gone = true;
    };
  }, [artifact, port, item]);
  if (found === undefined) return <div className="wire"><span className="quiet">…</span></div>;
  if (typeof found === "string") return <div className="wire"><span className="quiet" role="status">{found}</span></div>;
  if (found.form === "list" && item === undefined && found.items.some((one) => one.form === "tensor" || one.form === "record")) return <Items wire={wire} name={name} length={found.length} />;
  if (found.form === "table") return <Suspense><TableView table={found} length={found.length} /></Suspense>;
  return (
    <div className="wire nodrag nowheel scrolls">
      {"medium" in found && found.medium && <Entries wire={wire} name={name} digest={found} />}
      {"medium" in found && found.medium ? <span className="numbers">{summary(found)}</span> : <Shown digest={found} name={name} empty={t("node.skipped")} />}
    </div>
  );
}

function summary(digest: Digest): string {
  if (digest.form === "tensor") return facts(digest);
  if (digest.form !== "record") return "";
  return digest.fields.map(({ name, value }) => (value.form === "tensor" ? `${name}: ${facts(value)}` : value.form === "json" ? `${name}: ${JSON.stringify(value.value)}` : "")).filter(Boolean).join("; ");
}

/** What arrives as a list, one after the other. */
function Items({ wire, name, length }: { wire: WireRef; name: string; length: number }) {
  const [at, setAt] = useState(0);
  return (
    <div className="wire nodrag">
      <Turns at={at} count={length} set={setAt} />
      <Wire key={at} wire={{ ...wire, item: at }} name={`${name} ${at + 1}`} />
    </div>
  );
}

/** The entries of a batch of pictures, sounds, or the one film. */
function Entries({ wire, name, digest }: { wire: WireRef; name: string; digest: Extract<Digest, { medium?: unknown }> }) {
  const [at, setAt] = useState(0);
  const medium = digest.medium!;
  const count = digest.count ?? 1;
  const files = useMemo<FileRef[]>(() => Array.from({ length: Math.min(count, 64) }, (_unused, index) => ({
    folder: "", name: count > 1 ? `${name} ${index + 1}` : name, media_type: MEDIA_TYPES[medium], bytes: 0, fps: digest.fps,
    url: address("/api/v1/artifacts/{key}/{port}", { key: wire.artifact, port: String(wire.port) }, { format: "media", item: wire.item, index }),
  })), [wire.artifact, wire.port, wire.item, medium, count, name, digest.fps]);
  return (
    <>
      {files.length > 1 && <Turns at={at} count={files.length} set={setAt} />}
      <Media key={at} file={files[at]!} group={files} />
    </>
  );
}

function Turns({ at, count, set }: { at: number; count: number; set: (at: number) => void }) {
  const t = useT();
  if (count < 2) return null;
  return (
    <span className="turns">
      <button className="mini" aria-label={t("previous")} onClick={() => set((at + count - 1) % count)}>‹</button>
      {at + 1} / {count}
      <button className="mini" aria-label={t("next")} onClick={() => set((at + 1) % count)}>›</button>
    </span>
  );
}

function Shown({ digest, name, empty }: { digest: Digest; name: string; empty: string }) {
  switch (digest.form) {
    case "tensor":
      return <Strip digest={digest} name={name} />;
    case "record":
      return (
        <dl>
          {digest.fields.map((field) => [<dt key={`${field.name}.`}>{field.name}</dt>, <dd key={field.name}><Shown digest={field.value} name={field.name} empty={empty} /></dd>])}
          {digest.more > 0 && <dt>… {digest.more}</dt>}
        </dl>
      );
    case "list":
      return (
        <dl>
          {digest.items.map((item, at) => [<dt key={`${at}.`}>{at + 1}</dt>, <dd key={at}><Shown digest={item} name={`${name} ${at + 1}`} empty={empty} /></dd>])}
          {digest.length > digest.items.length && <dt>… {digest.length - digest.items.length}</dt>}
        </dl>
      );
    case "table":
      return <TableView table={digest} length={digest.length} />;
    case "text":
      return <Text text={digest.text + (digest.length > digest.text.length ? " …" : "")} />;
    case "json":
      return <Value value={digest.value} />;
    case "skipped":
      return <span className="quiet">{digest.message || empty}</span>;
    default:
      return <span className="numbers">{digest.text}</span>;
  }
}

/** The numbers of a tensor as colours: below zero blue, above it red; where there is only one sign, dark to light. */
function Strip({ digest, name }: { digest: TensorDigest; name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [under, setUnder] = useState<number | null>(null);
  const { rows = 0, columns = 0, strip } = digest;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !strip?.length) return;
    const [low, high] = [Math.min(...strip), Math.max(...strip)];
    const picture = new ImageData(columns, rows);
    strip.forEach((value, index) => {
      const share = place(value, low, high);
      picture.data.set([...(low < 0 && high > 0 ? twoSided(share) : colour(share * 255)), 255], index * 4);
    });
    context.putImageData(picture, 0, 0);
  }, [strip, rows, columns]);
  if (!strip?.length) return <span className="numbers">{facts(digest)}</span>;
  const last = digest.shape[digest.shape.length - 1] ?? 1;
  const all = digest.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const [row, column] = under === null ? [0, 0] : [Math.floor(under / columns), under % columns];
  return (
    <span className={`numbers-of ${rows > 1 ? "tall" : ""}`}>
      <canvas
        ref={canvas} width={columns} height={rows} role="img" aria-label={`${name}: ${facts(digest)}`} data-strip={strip.length}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const at = (share: number, count: number): number => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
          setUnder(at((event.clientY - box.top) / box.height, rows) * columns + at((event.clientX - box.left) / box.width, columns));
        }}
        onPointerLeave={() => setUnder(null)}
      />
      <span className="numbers">{under === null ? facts(digest) : `[${rows > 1 ? `${range(row, rows, all)}, ` : ""}${range(column, columns, last)}] = ${short(strip[under]!)}`}</span>
    </span>
  );
}

/** Which of the tensor's places a cell of the strip stands for. */
function range(cell: number, cells: number, size: number): string {
  const from = Math.floor((cell * size) / cells);
  const to = Math.ceil(((cell + 1) * size) / cells) - 1;
  return to > from ? `${from}–${to}` : String(from);
}
