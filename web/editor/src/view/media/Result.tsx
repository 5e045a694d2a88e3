/** Result: what a node has made, on the node: while it works the preview or the words so far, then pictures, sounds, films, text. */

import { lazy, memo, Suspense, useEffect, useMemo, useState } from "react";

import { useT } from "../../i18n/t";
import { filesOf, type NodeRun } from "../../state/run";
import { useShown } from "../../state/runs";
import { Icon } from "../Icon";
import { Media } from "./Media";
import { Text, Value } from "./Text";
import type { WireRef } from "./Wire";

const Wire = lazy(() => import("./Wire"));

export const Result = memo(function Result({ id, tab, run, none, height }: { id: string; tab: string | null; run: NodeRun | undefined; none?: string; height: number }) {
  const t = useT();
  const shown = useShown(tab, id);
  const [at, setAt] = useState(0);
  const files = useMemo(() => filesOf(shown?.outputs), [shown?.outputs]);
  const index = Math.min(at, files.length - 1);
  let inner: React.ReactNode = <span className="quiet">{none ?? t("result.none")}</span>;
  if (run?.error) inner = <div className="failure"><b>{run.error.message}</b>{run.error.remedy && <p>{run.error.remedy}</p>}</div>;
  else if (shown?.preview && !files.length) inner = <Preview preview={shown.preview} />;
  else if (files.length) inner = <Media key={files[index]!.name} file={files[index]!} group={files} />;
  else if (shown?.outputs) inner = <Plain outputs={shown.outputs} />;
  else if (shown?.text) inner = <Text text={shown.text} live={run?.status === "running"} />;
  return (
    <div className="result" style={{ height: Math.max(60, height) }} data-result={id}>
      {inner}
      {files.length > 1 && (
        <span className="pages nodrag">
          <button className="mini" aria-label={t("previous")} onClick={() => setAt((index + files.length - 1) % files.length)}>‹</button>
          {index + 1}/{files.length}
          <button className="mini" aria-label={t("next")} onClick={() => setAt((index + 1) % files.length)}>›</button>
        </span>
      )}
      {files.length > 0 && <span className="facts">{files[index]!.width ? `${files[index]!.width} × ${files[index]!.height}` : bytes(files[index]!.bytes)}</span>}
    </div>
  );
});

export function bytes(count: number): string {
  return count < 1e4 ? `${count} B` : count < 1e6 ? `${Math.round(count / 1e3)} kB` : count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

export function Preview({ preview }: { preview: { media_type: string; image: Uint8Array } }) {
  const t = useT();
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([preview.image.slice()], { type: preview.media_type }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [preview]);
  return url ? <img className="picture live" src={url} alt={t("result.preview")} /> : null;
}

function Plain({ outputs }: { outputs: Record<string, unknown> }) {
  const t = useT();
  return (
    <>
      {Object.entries(outputs).map(([port, value]) => {
        if (typeof value === "string") return <Text key={port} text={value} />;
        if (typeof value === "object" && value !== null && "skipped" in value) return <span key={port} className="quiet"><Icon name="minus" size={14} /> {String((value as { skipped: unknown }).skipped ?? t("node.skipped"))}</span>;
        if (typeof value === "object" && value !== null && "artifact" in value) {
          return <Suspense key={port}><Wire wire={value as unknown as WireRef} name={port} /></Suspense>;
        }
        return <Value key={port} value={value} />;
      })}
    </>
  );
}
