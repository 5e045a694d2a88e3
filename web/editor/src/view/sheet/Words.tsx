/** Words: two texts as one, with what was taken out and put in. */

import { useMemo } from "react";

import { words } from "../../model/compare";

const MOST = 50_000;

export function Words({ before, after }: { before: string; after: string }) {
  const pieces = useMemo(() => words(before.slice(0, MOST), after.slice(0, MOST)), [before, after]);
  return <p className="words">{pieces.map(({ text, fate }, index) => (fate === "same" ? <span key={index}>{text}</span> : fate === "added" ? <ins key={index}>{text}</ins> : <del key={index}>{text}</del>))}</p>;
}
