/** CompareResults: what two runs made, node by node: pictures under a slider, sounds and films beside each other, texts by words. */

import { useEffect, useState } from "react";

import type { Run } from "../../api/schema";
import { useT } from "../../i18n/t";
import { dumpJson, same } from "../../model/json";
import { filesOf, type FileRef } from "../../state/run";
import { kindOf, Media, urlOf } from "../media/Media";
import { wordsOf } from "./SweepGrid";
import { Words } from "./Words";

type Outputs = Record<string, unknown>;

export function Results({ before, after, titles }: { before: Run["result"]; after: Run["result"]; titles: ReadonlyMap<string, string> }) {
  const t = useT();
  const nodes = [...new Set([...Object.keys(after), ...Object.keys(before)])];
  return (
    <>
      {nodes.map((node) => (
        <section key={node} className="made">
          <h3>{titles.get(node) ?? node} <small>{node}</small></h3>
          <Both before={before[node]} after={after[node]} />
        </section>
      ))}
      {!nodes.length && <p className="quiet">{t("result.none")}</p>}
    </>
  );
}

function Both({ before, after }: { before: Outputs | undefined; after: Outputs | undefined }) {
  const t = useT();
  const [old, now] = [filesOf(before), filesOf(after)];
  const pairs = Array.from({ length: Math.max(old.length, now.length) }, (_unused, index) => [old[index], now[index]] as const);
  if (pairs.length) return <>{pairs.map(([a, b], index) => <Pair key={index} before={a} after={b} />)}</>;
  const [a, b] = [wordsOf(before), wordsOf(after)];
  if (a || b) return a === b ? <p className="words">{a}<small className="quiet"> {t("compare.equal")}</small></p> : <Words before={a} after={b} />;
  if (same(before, after)) return <p className="quiet">{t("compare.equal")}</p>;
  return <div className="row"><del>{(dumpJson(before ?? null) ?? "").slice(0, 500)}</del> <span aria-hidden="true">→</span> <ins>{(dumpJson(after ?? null) ?? "").slice(0, 500)}</ins></div>;
}

function Pair({ before, after }: { before: FileRef | undefined; after: FileRef | undefined }) {
  const t = useT();
  const [a, b] = [before && kindOf(before), after && kindOf(after)];
  if (before && after && a === "image" && b === "image") return <Slider before={before} after={after} />;
  if (before && after && a === "text" && b === "text") return <Texts before={before} after={after} />;
  return (
    <div className="beside">
      {([["compare.before", before], ["compare.after", after]] as const).map(([word, file]) => (
        <figure key={word}><figcaption>{t(word)}</figcaption>{file ? <Media key={file.name} file={file} /> : <p className="quiet">{t("result.none")}</p>}</figure>
      ))}
    </div>
  );
}

/** The earlier picture lies over the later one, as far as the slider is to the right. */
function Slider({ before, after }: { before: FileRef; after: FileRef }) {
  const t = useT();
  const [at, setAt] = useState(50);
  return (
    <div className="slider">
      <div className="stack">
        <img src={urlOf(after)} alt={`${t("compare.after")}: ${after.name}`} draggable={false} />
        <img className="over" src={urlOf(before)} alt={`${t("compare.before")}: ${before.name}`} draggable={false} style={{ clipPath: `inset(0 ${100 - at}% 0 0)` }} />
        <i style={{ left: `${at}%` }} />
      </div>
      <input type="range" min={0} max={100} value={at} aria-label={t("compare.slider")} aria-valuetext={`${at} % ${t("compare.before")}`} onChange={(event) => setAt(Number(event.target.value))} />
    </div>
  );
}

const SHOWN_BYTES = 50_000;

function Texts({ before, after }: { before: FileRef; after: FileRef }) {
  const [texts, setTexts] = useState<[string, string] | null>(null);
  const [a, b] = [urlOf(before), urlOf(after)];
  useEffect(() => {
    let gone = false;
    const read = (url: string): Promise<string> => fetch(url, { headers: { Range: `bytes=0-${SHOWN_BYTES}` } }).then((answer) => (answer.ok ? answer.text() : ""));
    Promise.all([read(a), read(b)]).then((found) => gone || setTexts(found), () => undefined);
    return () => {
      gone = true;
    };
  }, [a, b]);
  return texts && <Words before={texts[0]} after={texts[1]} />;
}
