/** Arrived: what lies on the inputs of a node that waits at a breakpoint, below it, until it goes on. */

import { lazy, Suspense } from "react";

import { useT } from "../../i18n/t";
import { labelIn, type NodeType } from "../../model/nodetype";
import { goOn } from "../../state/running";
import type { WireRef } from "../media/Wire";

const Wire = lazy(() => import("../media/Wire"));
const OPEN = 3;

export function Arrived({ id, title, type, run, arrived }: { id: string; title: string; type: NodeType; run: string; arrived: Record<string, unknown> }) {
  const t = useT();
  const inputs = Object.entries(arrived) as [string, WireRef][];
  return (
    <section className="arrived nodrag nopan nowheel" aria-label={t("wire.title", { name: title })} data-arrived={id} onPointerDown={(event) => event.stopPropagation()} onDoubleClick={(event) => event.stopPropagation()}>
      <header>
        <b role="status">{t("wire.title", { name: title })}</b>
        <button className="primary" onClick={() => void goOn(run, id)}>{t("cmd.continue")}</button>
      </header>
      {!inputs.length && <p className="quiet">{t("wire.none")}</p>}
      {inputs.map(([port, wire], at) => (
        <details key={port} open={at < OPEN}>
          <summary>{labelIn(type, port)}</summary>
          <Suspense fallback={<span className="quiet">…</span>}><Wire wire={wire} name={port} /></Suspense>
        </details>
      ))}
    </section>
  );
}
