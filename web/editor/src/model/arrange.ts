/** Arrange: new places for nodes, in layers from left to right, by ELK, in a worker that is fetched when it is first asked. */

import ELK, { type ELK as Elk } from "elkjs/lib/elk-api.js";
import workerUrl from "elkjs/lib/elk-worker.min.js?url";

import { links, type Doc, type Frame, type Point } from "./document";
import { bounds } from "./shape";

const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.direction": "RIGHT",
  "elk.layered.spacing.nodeNodeBetweenLayers": "90",
  "elk.spacing.nodeNode": "36",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
  "elk.separateConnectedComponents": "true",
  "elk.spacing.componentComponent": "70",
};

let elk: Elk | undefined;

/** Places for the nodes in `frames`; their top left corner stays where it is. */
export async function arrangement(doc: Doc, frames: ReadonlyMap<string, Frame>): Promise<Map<string, Point>> {
  const corner = bounds([...frames.values()]);
  elk ??= new ELK({ workerUrl });
  const laid = await elk.layout({
    id: "root",
    layoutOptions: OPTIONS,
    children: [...frames].map(([id, { width, height }]) => ({ id, width, height })),
    edges: links(doc)
      .filter((link) => frames.has(link.source) && frames.has(link.target))
      .map((link, index) => ({ id: `e${index}`, sources: [link.source], targets: [link.target] })),
  });
  const children = laid.children ?? [];
  const left = Math.min(...children.map((child) => child.x ?? 0));
  const top = Math.min(...children.map((child) => child.y ?? 0));
  return new Map(children.map((child) => [child.id, { x: Math.round((child.x ?? 0) - left + corner.x), y: Math.round((child.y ?? 0) - top + corner.y) }]));
}
