/** Film: a player with a strip of frames below it, which is looked through with the pointer, and stepped through one by one. */

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { Icon } from "../Icon";
import { reel } from "./reel";

/** Where nobody says it and none were seen yet. */
const USUAL_FPS = 25;

interface Props {
  url: string;
  name: string;
  fps?: number;
  note?: string;
  onBroken: () => void;
  onOpen?: (event: React.MouseEvent) => void;
  onDrag: (event: React.DragEvent) => void;
}

export function Film({ url, name, fps, note, onBroken, onOpen, onDrag }: Props) {
  const t = useT();
  const film = useRef<HTMLVideoElement>(null);
  const strip = useRef<HTMLCanvasElement>(null);
  const back = useRef<number | null>(null);
  const wanted = useRef<number | null>(null);
  const [at, setAt] = useState(0);
  const [length, setLength] = useState(0);
  const [drawn, setDrawn] = useState(false);
  const [seen, setSeen] = useState(0);
  const rate = fps || seen || USUAL_FPS;
  useEffect(() => {
    let gone = false;
    void reel(url).then((found) => {
      const canvas = strip.current;
      if (gone || !found || !canvas) return;
      canvas.width = found.width;
      canvas.height = found.height;
      canvas.getContext("2d")!.drawImage(found, 0, 0);
      setDrawn(true);
    });
    return () => {
      gone = true;
    };
  }, [url]);
  // a film that says nothing of its rate is watched: the shortest time between two frames
  useEffect(() => {
    const player = film.current;
    if (fps || !player?.requestVideoFrameCallback) return;
    let [last, least] = [-1, Infinity];
    let call = player.requestVideoFrameCallback(function look(_now, { mediaTime }) {
      const step = mediaTime - last;
      if (last >= 0 && step > 0.004 && step < least && step < 1) setSeen(Math.round((1 / (least = step)) * 100) / 100);
      last = mediaTime;
      call = player.requestVideoFrameCallback(look);
    });
    return () => player.cancelVideoFrameCallback(call);
  }, [fps, url]);
  /** One seek after the other: a browser that is told of hundreds shows none. */
  const show = (to: number): void => {
    const player = film.current;
    if (!player || !length) return;
    const place = Math.min(Math.max(0, length - 0.001), Math.max(0, to));
    setAt(place);
    if (player.seeking) wanted.current = place;
    else player.currentTime = place;
  };
  const step = (count: number): void => {
    film.current?.pause();
    back.current = null;
    const now = wanted.current ?? film.current?.currentTime ?? 0;
    show((Math.floor(now * rate + 0.001) + count + 0.5) / rate); // the middle of a frame is in it, however times are rounded
  };
  const under = (event: React.PointerEvent<HTMLElement>): number => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * length;
  };
  const count = Math.max(1, Math.round(length * rate));
  const frame = Math.min(count, Math.floor(at * rate + 0.001) + 1);
  return (
    <div className="reel nodrag" title={note} data-made={note ? true : undefined}>
      <video
        ref={film} className="film" src={url} controls loop playsInline preload="metadata" aria-label={name} onError={onBroken} onDoubleClick={onOpen} draggable onDragStart={onDrag}
        onLoadedMetadata={(event) => setLength(Number.isFinite(event.currentTarget.duration) ? event.currentTarget.duration : 0)}
        onTimeUpdate={(event) => setAt(event.currentTarget.currentTime)}
        onSeeked={(event) => {
          const next = wanted.current;
          wanted.current = null;
          if (next !== null) event.currentTarget.currentTime = next;
        }}
      />
      <div
        className="strip" role="slider" tabIndex={0} aria-label={`${t("media.frame")} ${name}`} aria-valuemin={1} aria-valuemax={count} aria-valuenow={frame} aria-valuetext={`${frame} / ${count}, ${at.toFixed(2)} s`}
        onPointerEnter={(event) => { if (film.current?.paused && event.pointerType === "mouse") back.current = film.current.currentTime; }}
        onPointerMove={(event) => { if (back.current !== null || event.buttons & 1) show(under(event)); }}
        onPointerDown={(event) => { back.current = null; event.currentTarget.setPointerCapture(event.pointerId); show(under(event)); }}
        onPointerLeave={() => { if (back.current !== null) show(back.current); back.current = null; }}
        onKeyDown={(event) => {
          if (event.key === "ArrowRight") step(1);
          else if (event.key === "ArrowLeft") step(-1);
          else if (event.key === "Home") show(0);
          else if (event.key === "End") show(length);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <canvas ref={strip} data-drawn={drawn || undefined} />
        <i className="head" style={{ left: `${length ? (at / length) * 100 : 0}%` }} />
      </div>
      <div className="steps-of">
        <button className="mini" aria-label={`${t("media.frame.previous")}: ${name}`} title={t("media.frame.previous")} onClick={() => step(-1)}>‹</button>
        <span>{frame} / {count}</span>
        <button className="mini" aria-label={`${t("media.frame.next")}: ${name}`} title={t("media.frame.next")} onClick={() => step(1)}>›</button>
        <span className="spring" />
        {onOpen && <button className="mini" aria-label={`${t("media.open")}: ${name}`} title={t("media.open")} onClick={onOpen}><Icon name="expand" size={14} /></button>}
      </div>
    </div>
  );
}
