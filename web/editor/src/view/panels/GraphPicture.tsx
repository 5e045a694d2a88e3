/** GraphPicture: a small drawing of a workflow, or what it made last. Read and drawn when it comes into sight. */

import { useEffect, useRef, useState } from "react";

import { address } from "../../api/http";
import type { Workflow } from "../../api/schema";
import { links, type Doc } from "../../model/document";
import { bounds, frameOf } from "../../model/shape";
import type { Catalog } from "../../model/nodetype";
import { lastResult, outlineOf } from "../../state/library";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { hueOf } from "../canvas/hue";

const MOST = 400;

export function GraphPicture({ workflow }: { workflow: Workflow }) {
  const box = useRef<HTMLSpanElement>(null);
  const [doc, setDoc] = useState<Doc>();
  const [broken, setBroken] = useState(false);
  const made = useStore(server, () => lastResult(workflow.title));
  const file = broken ? undefined : (workflow.thumbnail ?? made);
  const { name, modified } = workflow;
  const drawn = !file;
  useEffect(() => {
    if (!drawn || !box.current) return undefined;
    let gone = false;
    const eye = new IntersectionObserver(([entry]) => {
      if (!entry?.isIntersecting) return;
      eye.disconnect();
      void outlineOf(name, modified).then((found) => gone || setDoc(found));
    });
    eye.observe(box.current);
    return () => {
      gone = true;
      eye.disconnect();
    };
  }, [drawn, name, modified]);
  return (
    <span ref={box} className="graph-picture" aria-hidden="true">
      {file ? <img src={address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: 256 })} alt="" loading="lazy" decoding="async" onError={() => setBroken(true)} /> : doc && <Drawing doc={doc} />}
    </span>
  );
}

function Drawing({ doc }: { doc: Doc }) {
  const catalog = useStore(server, (now) => now.catalog);
  const { box, plates, paths } = shapes(doc, catalog);
  return (
    <svg viewBox={`${box.x} ${box.y} ${box.width} ${box.height}`}>
      <path d={paths} vectorEffect="non-scaling-stroke" />
      {plates.map(({ x, y, width, height, hue, key }) => <rect key={key} x={x} y={y} width={width} height={height} rx={16} fill={`hsl(${hue} 34% 56%)`} />)}
    </svg>
  );
}

function shapes(doc: Doc, catalog: Catalog) {
  const plates = Object.entries(doc.nodes).slice(0, MOST).map(([key, node]) => ({ key, ...frameOf(catalog, node), hue: hueOf(catalog.of(node).category) }));
  const byKey = new Map(plates.map((plate) => [plate.key, plate]));
  const paths = links(doc).map(({ source, target }) => {
    const [from, to] = [byKey.get(source), byKey.get(target)];
    if (!from || !to) return "";
    const [x, y, u, v] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2];
    return `M${x} ${y}C${x + 60} ${y} ${u - 60} ${v} ${u} ${v}`;
  });
  const { x, y, width, height } = bounds(plates);
  return { box: { x: x - 40, y: y - 40, width: Math.max(800, width + 80), height: Math.max(260, height + 80) }, plates, paths: paths.join("") };
}
