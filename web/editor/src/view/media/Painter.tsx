/** Painter: a mask is painted over a picture, by pointer or by keyboard. It is loaded when it is first asked for. */

import "../../style/painter.css";

import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { fromPixels, grey, Sheet, tinted, type Brush, type Rect } from "../../model/mask";
import { keepMask } from "../../state/painting";
import { screen, toast, type Painting } from "../../state/screen";
import { Icon } from "../Icon";
import { useFocusTrap } from "../shell/focus";
import { playableOf, urlOf } from "./Media";

const TINT = [255, 61, 97] as const;
/** What a canvas and this page's memory can carry. */
const MOST_PIXELS = 64e6;
const FAR = 1 / 16;
const NEAR = 32;

interface Spot {
  x: number;
  y: number;
}
interface Look extends Spot {
  zoom: number;
}

export default function Painter({ painting }: { painting: Painting }) {
  const t = useT();
  const box = useRef<HTMLDivElement>(null);
  const stage = useRef<HTMLDivElement>(null);
  const sheet = useRef<Sheet | null>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const hand = useRef<{ last: Spot; pan?: Spot } | null>(null);
  const [look, setLook] = useState<Look | null>(null);
  const [erase, setErase] = useState(false);
  const [size, setSize] = useState(40);
  const [softness, setSoftness] = useState(0.2);
  const [opacity, setOpacity] = useState(0.6);
  // where the brush is: also read by keys, which may come before a move was drawn
  const tip = useRef<Spot | null>(null);
  const [at, drawAt] = useState<Spot | null>(null);
  const [down, setDown] = useState(false);
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  const [leaving, setLeaving] = useState(false);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useFocusTrap(box);
  const name = (painting.over ?? painting.mask?.file)?.name ?? "";

  const setAt = (spot: Spot): void => {
    tip.current = spot;
    drawAt(spot);
  };
  const paint = (rect: Rect | null): void => {
    if (!sheet.current || !canvas.current || !rect?.width || !rect.height) return;
    canvas.current.getContext("2d")!.putImageData(new ImageData(tinted(sheet.current, rect, TINT), rect.width, rect.height), rect.x, rect.y);
  };
  const fit = (): void => {
    const room = stage.current?.getBoundingClientRect();
    const { width, height } = sheet.current ?? { width: 1, height: 1 };
    if (!room) return;
    const zoom = Math.min(NEAR, Math.max(FAR, Math.min((room.width - 48) / width, (room.height - 48) / height)));
    setLook({ zoom, x: (room.width - width * zoom) / 2, y: (room.height - height * zoom) / 2 });
  };

  useEffect(() => {
    let gone = false;
    open(painting).then((made) => {
      if (gone) return;
      sheet.current = made;
      canvas.current!.width = made.width;
      canvas.current!.height = made.height;
      paint(made.whole);
      setSize(Math.max(2, Math.round(Math.max(made.width, made.height) / 16)));
      setAt({ x: Math.round(made.width / 2), y: Math.round(made.height / 2) });
      fit();
      stage.current?.focus();
    }).catch((error: unknown) => {
      if (gone) return;
      toast(t(error instanceof TooLarge ? "mask.too.large" : "media.broken", { name }), "error");
      screen.patch({ painting: null });
    });
    return () => {
      gone = true;
    };
    // what is painted is fixed while this is open
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, []);

  const brush = (pressure = 1): Brush => ({ radius: Math.max(0.5, (size / 2) * pressure), softness, erase });
  const stroke = (from: Spot, to: Spot, pressure?: number): void => paint(sheet.current?.stroke(from.x, from.y, to.x, to.y, brush(pressure)) ?? null);
  const ended = (): void => {
    sheet.current?.end();
    setLeaving(false);
    redraw();
  };
  const act = (step: (one: Sheet) => Rect | null): void => {
    if (!sheet.current) return;
    setDown(false);
    paint(step(sheet.current));
    ended();
    setSaid(t("mask.covered", { share: Math.round(sheet.current.covered * 100) }));
  };
  const resize = (factor: number): void => setSize((now) => Math.max(1, Math.min(2000, Math.round(factor > 1 ? Math.max(now + 1, now * factor) : Math.min(now - 1, now * factor)))));
  const zoomAt = (factor: number, x: number, y: number): void => setLook((now) => {
    if (!now) return now;
    const zoom = Math.min(NEAR, Math.max(FAR, now.zoom * factor));
    return { zoom, x: x - ((x - now.x) * zoom) / now.zoom, y: y - ((y - now.y) * zoom) / now.zoom };
  });
  const zoomBy = (factor: number): void => {
    const room = stage.current!.getBoundingClientRect();
    zoomAt(factor, room.width / 2, room.height / 2);
  };
  const leave = (): void => {
    if (sheet.current?.changed && !leaving) {
      setLeaving(true);
      setSaid(t("mask.leave"));
    } else screen.patch({ painting: null });
  };
  const keep = async (): Promise<void> => {
    if (!sheet.current || busy) return;
    setBusy(true);
    if (!(await keepMask(await toPng(sheet.current)))) setBusy(false);
  };

  /** Without a pointer: arrows move the brush, space puts it down and takes it up. */
  const move = (dx: number, dy: number): void => {
    const [one, at] = [sheet.current, tip.current];
    if (!one || !at || !look) return;
    const to = { x: Math.min(one.width, Math.max(0, at.x + dx)), y: Math.min(one.height, Math.max(0, at.y + dy)) };
    if (down) stroke(at, to);
    setAt(to);
    setSaid(`${to.x}, ${to.y}${down ? ` · ${t(erase ? "mask.eraser" : "mask.brush")}` : ""}`);
    const room = stage.current!.getBoundingClientRect();
    const [x, y] = [to.x * look.zoom + look.x, to.y * look.zoom + look.y];
    const back = (place: number, far: number): number => (place < 30 ? 30 - place : place > far - 30 ? far - 30 - place : 0);
    setLook({ ...look, x: look.x + back(x, room.width), y: look.y + back(y, room.height) });
  };
  const toggle = (): void => {
    const at = tip.current;
    if (!sheet.current || !at) return;
    if (down) ended();
    else {
      sheet.current.begin();
      stroke(at, at);
    }
    setDown(!down);
    setSaid(t(down ? "mask.up" : "mask.down"));
  };
  const key = (event: KeyboardEvent): void => {
    const held = event.ctrlKey || event.metaKey;
    const onStage = event.target === stage.current;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(size / 4));
    const found: Record<string, () => void> = held
      ? { z: () => act((one) => (event.shiftKey ? one.redo() : one.undo())), y: () => act((one) => one.redo()), s: () => void keep() }
      : {
          b: () => setErase(false), e: () => setErase(true), i: () => act((one) => one.invert()), escape: leave,
          "[": () => resize(1 / 1.25), "]": () => resize(1.25), "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), "0": fit,
          ...(onStage ? { arrowleft: () => move(-step, 0), arrowright: () => move(step, 0), arrowup: () => move(0, -step), arrowdown: () => move(0, step), " ": toggle } : {}),
        };
    const run = event.altKey ? undefined : found[event.key.toLowerCase()];
    event.stopPropagation(); // nothing behind this is meant
    if (!run) return;
    event.preventDefault();
    run();
  };

  // before the next event, not after the next frame: a key follows upon a key
  useLayoutEffect(() => {
    const frame = box.current!;
    frame.addEventListener("keydown", key);
    // React listens to the wheel passively: the page would scroll and zoom along
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const room = stage.current!.getBoundingClientRect();
      zoomAt(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - room.left, event.clientY - room.top);
    };
    const ground = stage.current!;
    ground.addEventListener("wheel", wheel, { passive: false });
    return () => {
      frame.removeEventListener("keydown", key);
      ground.removeEventListener("wheel", wheel);
    };
  });

  const spotOf = (event: { clientX: number; clientY: number }): Spot => {
    const room = stage.current!.getBoundingClientRect();
    return { x: (event.clientX - room.left - look!.x) / look!.zoom, y: (event.clientY - room.top - look!.y) / look!.zoom };
  };
  const pressureOf = (event: PointerEvent): number => (event.pointerType === "pen" && event.pressure ? 0.25 + 0.75 * event.pressure : 1);
  const press = (event: React.PointerEvent): void => {
    if (!look || !sheet.current) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    const spot = spotOf(event);
    if (event.button !== 0) {
      hand.current = { last: spot, pan: { x: event.clientX - look.x, y: event.clientY - look.y } };
      return;
    }
    setDown(false);
    sheet.current.begin();
    stroke(spot, spot, pressureOf(event.nativeEvent));
    hand.current = { last: spot };
  };
  const drag = (event: React.PointerEvent): void => {
    if (!look) return;
    const held = hand.current;
    if (held?.pan) return setLook({ ...look, x: event.clientX - held.pan.x, y: event.clientY - held.pan.y });
    // all points that the pointer came by since the last frame: fast strokes stay round
    const points = held ? event.nativeEvent.getCoalescedEvents?.() ?? [] : [];
    for (const point of points.length ? points : [event.nativeEvent]) {
      const spot = spotOf(point);
      if (held) {
        stroke(held.last, spot, pressureOf(point));
        held.last = spot;
      }
    }
    setAt(spotOf(event));
  };
  const release = (): void => {
    if (hand.current && !hand.current.pan) ended();
    hand.current = null;
  };

  const one = sheet.current;
  const button = (label: string, run: () => void, keys: string, more: { pressed?: boolean; off?: boolean; children?: React.ReactNode } = {}) => (
    <button key={label} aria-label={label} title={`${label} · ${keys}`} aria-keyshortcuts={keys.replace("Ctrl", "Control")} aria-pressed={more.pressed} disabled={more.off} onClick={run}>{more.children ?? label}</button>
  );
  const slider = (label: string, value: number, set: (value: number) => void, max: number, shown: string) => (
    <label>{label} <input type="range" min={max > 1 ? 1 : 0} max={max} step={max > 1 ? 1 : 0.05} value={value} aria-label={label} aria-valuetext={shown} onChange={(event) => set(Number(event.target.value))} /> <span className="shown" aria-hidden="true">{shown}</span></label>
  );
  return (
    <div ref={box} className="painter" role="dialog" aria-modal="true" aria-label={t("mask.title", { name })}>
      <header role="toolbar" aria-label={t("mask.tools")}>
        {button(t("mask.brush"), () => setErase(false), "B", { pressed: !erase })}
        {button(t("mask.eraser"), () => setErase(true), "E", { pressed: erase })}
        {slider(t("mask.size"), size, setSize, Math.max(200, size), `${size} px`)}
        {slider(t("mask.softness"), softness, setSoftness, 1, `${Math.round(softness * 100)} %`)}
        {slider(t("mask.opacity"), opacity, setOpacity, 1, `${Math.round(opacity * 100)} %`)}
        <span className="spring" />
        {button(t("undo"), () => act((now) => now.undo()), "Ctrl+Z", { off: !one?.canUndo })}
        {button(t("redo"), () => act((now) => now.redo()), "Ctrl+Y", { off: !one?.canRedo })}
        {button(t("mask.invert"), () => act((now) => now.invert()), "I")}
        {button(t("mask.clear"), () => act((now) => now.clear()), "–")}
        <span className="spring" />
        {button(t("cmd.zoom.out"), () => zoomBy(0.8), "-", { children: <Icon name="minus" size={15} /> })}
        {button(t("cmd.fit"), fit, "0", { children: `${Math.round((look?.zoom ?? 1) * 100)} %` })}
        {button(t("cmd.zoom.in"), () => zoomBy(1.25), "+", { children: <Icon name="plus" size={15} /> })}
        <span className="spring" />
        {button(leaving ? t("mask.discard") : t("cancel"), leave, "Escape")}
        <button className="primary" disabled={busy || !one} aria-keyshortcuts="Control+S" title="Ctrl+S" onClick={() => void keep()}>{t("mask.keep")}</button>
      </header>
      <div
        ref={stage} className="painting" tabIndex={0} role="application" aria-label={t("mask.stage", { name })} data-down={down || undefined}
        onPointerDown={press} onPointerMove={drag} onPointerUp={release} onPointerCancel={release} onContextMenu={(event) => event.preventDefault()}
      >
        <div className="sheet" style={look && one ? { width: one.width, height: one.height, transform: `translate(${look.x}px, ${look.y}px) scale(${look.zoom})` } : { visibility: "hidden" }}>
          {painting.over && <img src={urlOf(painting.over)} alt="" draggable={false} style={{ imageRendering: (look?.zoom ?? 1) > 3 ? "pixelated" : undefined }} />}
          <canvas ref={canvas} style={{ opacity, imageRendering: (look?.zoom ?? 1) > 3 ? "pixelated" : undefined }} data-mask />
        </div>
        {at && look && <i className={`tip ${erase ? "erase" : ""} ${down ? "down" : ""}`} style={{ left: at.x * look.zoom + look.x, top: at.y * look.zoom + look.y, width: size * look.zoom, height: size * look.zoom }} />}
      </div>
      <footer><span role="status">{said}</span><span className="quiet">{t("mask.how")}</span></footer>
    </div>
  );
}

class TooLarge extends Error {}

/** The mask that there is, else an empty one; as large as the picture. */
async function open({ over, mask }: Painting): Promise<Sheet> {
  const [picture, before] = await Promise.all([over ? load(urlOf(over)).catch(() => load(playableOf(over))) : undefined, mask ? load(urlOf(mask.file)).catch(() => undefined) : undefined]);
  const measure = picture ?? before;
  if (!measure) throw new Error("nothing to paint on");
  const { naturalWidth: width, naturalHeight: height } = measure;
  if (width * height > MOST_PIXELS) throw new TooLarge();
  if (!before) return new Sheet(width, height);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(before, 0, 0, width, height);
  return fromPixels(context.getImageData(0, 0, width, height).data, width, height, mask?.channel, mask?.invert);
}

async function load(url: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function toPng(sheet: Sheet): Promise<Blob> {
  const canvas = new OffscreenCanvas(sheet.width, sheet.height);
  canvas.getContext("2d")!.putImageData(new ImageData(grey(sheet), sheet.width, sheet.height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
