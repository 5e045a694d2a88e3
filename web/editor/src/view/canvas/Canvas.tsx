/** Canvas: the workflow of the active tab. React Flow draws what is derived from the document; every change goes to the document. */

import {
  ReactFlow, SelectionMode, useReactFlow, useStore as useFlowStore, type Connection, type EdgeChange, type FinalConnectionState, type NodeChange, type OnConnectStartParams,
} from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { t as word, useT } from "../../i18n/t";
import type { Point } from "../../model/document";
import * as edit from "../../model/edit";
import { inputOf, nextMore } from "../../model/nodetype";
import { inside } from "../../model/shape";
import { fits, outputKind } from "../../model/validate";
import { camera } from "../../state/camera";
import { setView } from "../../state/commands";
import { carried } from "../../state/dragged";
import { drop, dropFile } from "../../state/files";
import { screen } from "../../state/screen";
import { server } from "../../state/server";
import { settings } from "../../state/settings";
import { useStore } from "../../state/store";
import { active, activeOf, change, here, select, workspace } from "../../state/workspace";
import { Breadcrumb } from "./Breadcrumb";
import { FarLinks } from "./FarLinks";
import { isFar, Flow, type AnyNode, type LinkEdge } from "./flow";
import { Grid } from "./Grid";
import { GroupView } from "./GroupView";
import { LinkView } from "./LinkView";
import { Minimap } from "./Minimap";
import { NoteView } from "./NoteView";
import { StepView } from "./StepView";

const NODE_VIEWS = { step: StepView, group: GroupView, note: NoteView };
const EDGE_VIEWS = { link: LinkView };
const NOTHING: ReadonlyMap<string, Point> = new Map();
const GRID = 10;

export function Canvas() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const catalog = useStore(server, (now) => now.catalog);
  const { snap, grid, minimap, hideLinks } = useStore(settings);
  const drawing = useStore(screen, (now) => now.drawing?.kind);
  const [howNode, howLink] = [t("node.how"), t("edge.how")];
  const told = useMemo(() => ({ "node.a11yDescription.default": howNode, "edge.a11yDescription.default": howLink }), [howNode, howLink]);
  const line = useMemo(() => ({ stroke: drawing ? catalog.color(drawing) : undefined }), [catalog, drawing]);
  const flow = useReactFlow<AnyNode, LinkEdge>();
  const derive = useRef(new Flow()).current;
  const [dragged, setDragged] = useState(NOTHING);
  const [edges, setEdges] = useState<ReadonlySet<string>>(new Set());
  const dragging = useRef(false);
  const members = useRef(new Map<string, { group: string; from: Point; groupFrom: Point }>());
  /** the link whose end is held */
  const held = useRef<LinkEdge | null>(null);
  const doc = here(tab);
  const far = useFlowStore((state) => isFar(state.transform[2], state.nodes.length));
  const nodes = useMemo(() => derive.nodesOf(doc, catalog, tab.selected, dragged, far), [derive, doc, catalog, tab.selected, dragged, far]);
  const shown = useMemo(() => far ? NO_EDGES : derive.edgesOf(doc, catalog, hideLinks ? tab.selected : NONE, edges, hideLinks), [derive, doc, catalog, tab.selected, edges, hideLinks, far]);

  useEffect(() => {
    camera.use({
      fit: (ids) => void flow.fitView({ padding: 0.15, maxZoom: 1.1, duration: 200, nodes: ids?.map((id) => ({ id })) }),
      zoom: (factor) => void flow.zoomTo(flow.getZoom() * factor, { duration: 120 }),
      toCanvas: (page) => flow.screenToFlowPosition(page),
    });
    return () => camera.use(undefined);
  }, [flow]);

  // another tab, another view
  const view = useRef(tab.view);
  view.current = tab.view;
  useEffect(() => {
    setEdges(new Set());
    if (view.current) void flow.setViewport(view.current);
    else if (!Object.keys(here().nodes).length) void flow.setViewport({ x: 0, y: 0, zoom: 1 });
    else requestAnimationFrame(() => void flow.fitView({ padding: 0.12, maxZoom: 1 }));
  }, [tab.id, tab.inside, flow]);

  const onNodesChange = useCallback((changes: NodeChange<AnyNode>[]) => {
    const moved = new Map<string, Point>();
    let selected: Set<string> | undefined;
    for (const one of changes) {
      if (one.type === "position" && one.position) moved.set(one.id, one.position);
      else if (one.type === "select") {
        selected ??= new Set(active().selected);
        if (one.selected) selected.add(one.id);
        else selected.delete(one.id);
      }
    }
    if (selected) select(selected);
    const still = changes.filter((one) => one.type === "position" && !one.dragging);
    if (moved.size && still.length === 0) setDragged((now) => follow(new Map([...now, ...moved]), members.current));
    else if (moved.size && !dragging.current) change(word("edit.move"), (doc) => edit.move(doc, moved), "keys");
  }, []);

  const onDragStart = useCallback((_event: unknown, _node: AnyNode | null, all: AnyNode[]) => {
    dragging.current = true;
    const doc = here();
    members.current.clear();
    for (const node of all) {
      if (node.type !== "group") continue;
      for (const id of inside(doc, server.get().catalog, node.data.group)) {
        if (doc.nodes[id]?.ui?.pinned) continue;
        const part = doc.nodes[id]?.ui ?? doc.ui?.notes?.find((note) => note.id === id);
        if (part && !all.some((one) => one.id === id)) members.current.set(id, { group: node.id, from: { x: part.x ?? 0, y: part.y ?? 0 }, groupFrom: { x: node.data.group.x, y: node.data.group.y } });
      }
    }
  }, []);
  const onDragStop = useCallback((_event: unknown, _node: AnyNode | null, all: AnyNode[]) => {
    dragging.current = false;
    const places = follow(new Map(all.map((node) => [node.id, node.position])), members.current);
    members.current.clear();
    change(word("edit.move"), (doc) => edit.move(doc, places));
    setDragged(NOTHING);
  }, []);

  const onEdgesChange = useCallback((changes: EdgeChange<LinkEdge>[]) => {
    setEdges((now) => {
      const next = new Set(now);
      for (const one of changes) {
        if (one.type === "select" && one.selected) next.add(one.id);
        else if (one.type === "select") next.delete(one.id);
      }
      return next;
    });
  }, []);
  const cut = useCallback((ids: Iterable<string>) => {
    change(word("edit.cut"), (doc) => [...ids].reduce((now, id) => edit.disconnect(now, ...split(id)), doc));
  }, []);

  const valid = useCallback((wish: Connection | LinkEdge) => {
    const { source, target, sourceHandle, targetHandle } = wish;
    return fits(here(), server.get().catalog, source, bare(sourceHandle), target, wanted(target, bare(targetHandle)));
  }, []);
  const onConnect = useCallback(({ source, target, sourceHandle, targetHandle }: Connection) => {
    change(word("edit.link"), (doc) => edit.connect(doc, source, bare(sourceHandle), target, wanted(target, bare(targetHandle))));
  }, []);
  const onReconnect = useCallback((link: LinkEdge, { target, targetHandle }: Connection) => {
    change(word("edit.link"), (doc) => edit.relink(doc, ...split(link.id), target, wanted(target, bare(targetHandle))));
  }, []);
  const onConnectStart = useCallback((_event: unknown, { nodeId, handleId, handleType }: OnConnectStartParams) => {
    const doc = here();
    const { catalog } = server.get();
    const node = nodeId ? doc.nodes[nodeId] : undefined;
    if (!node || !nodeId || !handleId) return;
    const port = bare(handleId);
    const kind = handleType === "source" ? outputKind(doc, catalog, nodeId, port) : (inputOf(catalog.of(node), port)?.kind ?? "*");
    screen.patch({ drawing: { side: handleType === "source" ? "input" : "output", kind, node: nodeId } });
  }, []);
  const onConnectEnd = useCallback((event: MouseEvent | TouchEvent, end: FinalConnectionState) => {
    const { drawing } = screen.get();
    const link = held.current;
    held.current = null;
    screen.patch({ drawing: null });
    const at = "clientX" in event ? { x: event.clientX, y: event.clientY } : { x: event.changedTouches[0]!.clientX, y: event.changedTouches[0]!.clientY };
    const from = end.fromHandle;
    if (!from || end.isValid) return;
    const port = bare(from.id);
    const over = document.elementFromPoint(at.x, at.y);
    if (over?.closest(".react-flow__node-step")) return;
    if (!drawing || !over?.closest(".canvas")) return;
    if (link) cut([link.id]);
    screen.patch({ search: { at, place: flow.screenToFlowPosition(at), wanted: { side: drawing.side, kind: drawing.kind }, from: { node: from.nodeId, port } } });
  }, [flow, cut]);

  const menu = useCallback((kind: "node" | "link" | "canvas") => (event: React.MouseEvent | MouseEvent, part?: { id: string; type?: string }) => {
    event.preventDefault();
    const at = { x: event.clientX, y: event.clientY };
    const target = kind === "node" && (part?.type === "group" || part?.type === "note") ? (part.type as "group") : kind;
    if (part && kind === "node" && !active().selected.has(part.id)) select([part.id]);
    screen.patch({ menu: { at, place: flow.screenToFlowPosition(at), target: { kind: target, id: part?.id ?? "", input: (event.target as HTMLElement).closest<HTMLElement>("[data-input]")?.dataset["input"] } } });
  }, [flow]);

  return (
    <main
      className="canvas" aria-label={t("canvas")} onPointerMove={(event) => camera.saw({ x: event.clientX, y: event.clientY })}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        const place = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
        const file = carried(event.dataTransfer);
        if (file) dropFile(file, place, (event.target as HTMLElement).closest<HTMLElement>(".react-flow__node-step")?.dataset["id"]);
        else void drop([...event.dataTransfer.files], place);
      }}
      onDoubleClick={(event) => {
        if (!(event.target as HTMLElement).classList.contains("react-flow__pane")) return;
        const at = { x: event.clientX, y: event.clientY };
        screen.patch({ search: { at, place: flow.screenToFlowPosition(at) } });
      }}
    >
      <ReactFlow<AnyNode, LinkEdge>
        nodes={nodes} edges={shown} nodeTypes={NODE_VIEWS} edgeTypes={EDGE_VIEWS}
        onNodesChange={onNodesChange} onEdgesChange={onEdgesChange} onNodeDragStart={onDragStart} onNodeDragStop={onDragStop}
        onSelectionDragStart={(event, all) => onDragStart(event, null, all)} onSelectionDragStop={(event, all) => onDragStop(event, null, all)}
        onPaneClick={leaveFields} onNodeClick={(event) => (event.target as HTMLElement).closest(".field") ?? leaveFields()}
        onConnect={onConnect} onConnectStart={onConnectStart} onConnectEnd={onConnectEnd} onReconnectStart={(_event, link) => { held.current = link; }} onReconnect={onReconnect} isValidConnection={valid} connectionRadius={28} connectionLineStyle={line}
        onEdgesDelete={(gone) => cut(gone.map((edge) => edge.id))} deleteKeyCode={edges.size ? ["Delete", "Backspace"] : null} onNodesDelete={NOOP} onBeforeDelete={async ({ edges: gone }) => ({ nodes: [], edges: gone })}
        onNodeContextMenu={menu("node")} onEdgeContextMenu={menu("link")} onPaneContextMenu={menu("canvas")} onSelectionContextMenu={(event, all) => menu("node")(event, all[0])}
        onMoveEnd={(_event, now) => setView(active().id, now)}
        onlyRenderVisibleElements minZoom={0.05} maxZoom={3} zoomOnDoubleClick={false} panOnScroll={false} selectionOnDrag={false} selectionMode={SelectionMode.Partial}
        selectionKeyCode={["Shift", "Control"]} multiSelectionKeyCode={["Shift", "Control", "Meta"]} snapToGrid={snap} snapGrid={SNAP} elevateEdgesOnSelect={false} elevateNodesOnSelect nodeDragThreshold={2}
        disableKeyboardA11y={false} ariaLabelConfig={told} proOptions={PRO} defaultEdgeOptions={EDGE}
      >
        {grid && !far && <Grid />}
        {far && !hideLinks && <FarLinks doc={doc} catalog={catalog} dragged={dragged} />}
      </ReactFlow>
      <Breadcrumb />
      {minimap && <Minimap />}
    </main>
  );
}

/** A press beside a field ends typing into it; the drag of the canvas would keep the browser from seeing to that. */
function leaveFields(): void {
  const field = document.activeElement as HTMLElement | null;
  if (field && /^(INPUT|TEXTAREA)$/.test(field.tagName)) field.blur();
}

const NO_EDGES: LinkEdge[] = [];
const NONE: ReadonlySet<string> = new Set();
const NOOP = (): void => undefined;
const SNAP: [number, number] = [GRID, GRID];
const PRO = { hideAttribution: true };
/** Only the end at an input can be taken off: an output may have any number of links. */
const EDGE = { focusable: true, reconnectable: "target" as const };

function bare(handle: string | null | undefined): string {
  return handle?.slice(2) ?? "";
}

function split(id: string): [string, string] {
  const dot = id.indexOf(".");
  return [id.slice(0, dot), id.slice(dot + 1)];
}

/** The input that a link to the empty socket of a node gets. */
function wanted(target: string, port: string): string {
  const node = here().nodes[target];
  return port === "+" && node ? nextMore(server.get().catalog.of(node), node) : port;
}

/** With the groups that are moved, what lies in them. */
function follow(places: Map<string, Point>, members: ReadonlyMap<string, { group: string; from: Point; groupFrom: Point }>): Map<string, Point> {
  for (const [id, { group, from, groupFrom }] of members) {
    const now = places.get(group);
    if (now) places.set(id, { x: from.x + now.x - groupFrom.x, y: from.y + now.y - groupFrom.y });
  }
  return places;
}

