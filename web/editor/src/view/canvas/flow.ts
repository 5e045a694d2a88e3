/** Flow: what React Flow is told. Nodes and links are derived from the document; one that did not change is the same object. */

import { Position, type Edge, type Node, type NodeHandle } from "@xyflow/react";

import { splitLink, type Doc, type DocNode, type Group, type Note, type Point } from "../../model/document";
import { type Catalog, type NodeType } from "../../model/nodetype";
import { HEAD, PAD, shapeOf, type Shape } from "../../model/shape";
import { outputKind } from "../../model/validate";

/** Below this zoom nobody can read a field: nodes are plates with a name, links are one drawing, and the
 * canvas has no dots. Of many nodes earlier. */
export function isFar(zoom: number, nodes: number): boolean {
  return zoom < (nodes > 150 ? 0.52 : 0.38);
}

export type StepNode = Node<{ node: DocNode; type: NodeType; shape: Shape }, "step">;
export type GroupNode = Node<{ group: Group }, "group">;
export type NoteNode = Node<{ note: Note }, "note">;
export type AnyNode = StepNode | GroupNode | NoteNode;
export type LinkEdge = Edge<{ color: string; points: readonly Point[]; wrong: boolean; faint: boolean }, "link">;

interface KeptNode {
  source: unknown;
  type: unknown;
  selected: boolean;
  at: Point;
  made: AnyNode;
}

/** Derives, and remembers what it derived. One per canvas. */
export class Flow {
  private nodes = new Map<string, KeptNode>();
  private edges = new Map<string, LinkEdge>();
  private far = false;

  nodesOf(doc: Doc, catalog: Catalog, selected: ReadonlySet<string>, dragged: ReadonlyMap<string, Point>, far: boolean): AnyNode[] {
    // React Flow looks for the sockets of what comes into the page, and finds none on plates: links would be missing when they
    // are nodes again. Only of a new node it takes over where its sockets are said to be.
    if (this.far && !far) this.nodes.clear();
    this.far = far;
    const next = new Map<string, KeptNode>();
    const list: AnyNode[] = [];
    const put = (id: string, source: unknown, type: unknown, at: Point, make: () => AnyNode): void => {
      const chosen = selected.has(id);
      const before = this.nodes.get(id);
      const fresh = before && before.source === source && before.type === type && before.selected === chosen && before.at.x === at.x && before.at.y === at.y;
      const kept = fresh ? before : { source, type, selected: chosen, at, made: make() };
      next.set(id, kept);
      list.push(kept.made);
    };
    for (const group of doc.ui?.groups ?? []) {
      const at = dragged.get(group.id) ?? group;
      put(group.id, group, null, at, () => ({
        id: group.id, type: "group", position: { x: at.x, y: at.y }, width: group.width, height: group.height, measured: { width: group.width, height: group.height },
        data: { group }, selected: selected.has(group.id), zIndex: -10, connectable: false, dragHandle: ".group-head", ariaLabel: `Group ${group.title}`,
      }));
    }
    for (const note of doc.ui?.notes ?? []) {
      const at = dragged.get(note.id) ?? note;
      put(note.id, note, null, at, () => ({
        id: note.id, type: "note", position: { x: at.x, y: at.y }, width: note.width, height: note.height, measured: { width: note.width, height: note.height },
        data: { note }, selected: selected.has(note.id), connectable: false, ariaLabel: `Note ${note.text.trim().split("\n", 1)[0]!.slice(0, 80)}`,
      }));
    }
    for (const [id, node] of Object.entries(doc.nodes)) {
      const type = catalog.of(node);
      const at = dragged.get(id) ?? { x: node.ui?.x ?? 0, y: node.ui?.y ?? 0 };
      put(id, node, type, at, () => {
        const shape = shapeOf(catalog, node);
        return {
          id, type: "step", position: at, width: shape.width, height: shape.height, measured: { width: shape.width, height: shape.height },
          handles: handles(shape, node.ui?.collapsed ?? false), data: { node, type, shape }, selected: selected.has(id),
          draggable: !node.ui?.pinned, dragHandle: ".node-head", ariaLabel: `${node.title || type.title}, ${id}`,
        };
      });
    }
    this.nodes = next;
    return list;
  }

  edgesOf(doc: Doc, catalog: Catalog, selected: ReadonlySet<string>, chosen: ReadonlySet<string>, hide: boolean): LinkEdge[] {
    const next = new Map<string, LinkEdge>();
    for (const [target, node] of Object.entries(doc.nodes)) {
      for (const [input, text] of Object.entries(node.links ?? {})) {
        const [source, output] = splitLink(String(text));
        if (!doc.nodes[source]) continue;
        const id = `${target}.${input}`;
        const kind = outputKind(doc, catalog, source, output);
        const type = catalog.of(node);
        const port = type.inputs.find((entry) => entry.name === input) ?? type.more;
        const wrong = !type.missing && (!port || !catalog.accepts(port.kind, kind));
        const color = wrong ? "var(--bad)" : catalog.color(kind);
        const points = doc.ui?.reroutes?.[id] ?? NONE;
        const faint = hide && !selected.has(source) && !selected.has(target);
        const before = this.edges.get(id);
        const same =
          before && before.source === source && before.sourceHandle === `o:${output}` && before.selected === chosen.has(id) &&
          before.data?.color === color && before.data.points === points && before.data.faint === faint;
        next.set(id, same ? before : {
          id, type: "link", source, sourceHandle: `o:${output}`, target, targetHandle: `i:${input}`, selected: chosen.has(id),
          data: { color, points, wrong, faint }, ariaLabel: `Link from ${source} ${output} to ${target} ${input}`,
        });
      }
    }
    this.edges = next;
    return [...next.values()];
  }
}

const NONE: readonly Point[] = [];

/** Where the sockets are, in the node; known without drawing it. */
function handles(shape: Shape, collapsed: boolean): NodeHandle[] {
  const found: NodeHandle[] = [];
  let y = HEAD + PAD;
  for (const row of shape.rows) {
    const middle = collapsed ? HEAD / 2 : y + Math.min(row.height, 26) / 2;
    if (row.input) found.push({ id: row.more ? "i:+" : `i:${row.input.name}`, type: "target", position: Position.Left, x: 0, y: middle, width: 1, height: 1 });
    if (row.output) found.push({ id: `o:${row.output.name}`, type: "source", position: Position.Right, x: shape.width - 1, y: middle, width: 1, height: 1 });
    y += row.height;
  }
  return found;
}
