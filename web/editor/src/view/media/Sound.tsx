/** Sound: a waveform and a spectrogram, played and sought with a press. */

import { useEffect, useId, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { colour, marks, type Spectrum } from "../../model/spectrum";
import { Icon } from "../Icon";
import { heard } from "./heard";

const BARS = 120;
const STEP_S = 0.5;

interface Props {
  url: string;
  name: string;
  note?: string;
  onBroken: () => void;
  onOpen?: (event: React.MouseEvent) => void;
  onDrag: (event: React.DragEvent) => void;
}

export function Sound({ url, name, note, onBroken, onOpen, onDrag }: Props) {
  const t = useT();
  const player = useRef<HTMLAudioElement>(null);
  const [found, setFound] = useState<Spectrum | undefined>();
  const [at, setAt] = useState(0);
  const [length, setLength] = useState(0);
  const [playing, setPlaying] = useState(false);
  const told = useId();
  useEffect(() => {
    let gone = false;
    void heard(url).then((spectrum) => gone || setFound(spectrum));
    return () => {
      gone = true;
    };
  }, [url]);
  useEffect(() => {
    if (!playing) return;
    let frame = requestAnimationFrame(function follow() {
      setAt(player.current?.currentTime ?? 0);
      frame = requestAnimationFrame(follow);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing]);
  const toggle = (): void => {
    const sound = player.current;
    if (!sound) return;
    if (sound.paused) void sound.play().catch(() => undefined);
    else sound.pause();
  };
  const seek = (to: number): void => {
    if (!player.current || !length) return;
    player.current.currentTime = Math.min(length, Math.max(0, to));
    setAt(player.current.currentTime);
  };
  const point = (event: React.PointerEvent<HTMLElement>): void => {
    const box = event.currentTarget.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * length);
  };
  const share = length ? at / length : 0;
  const seconds = Math.round(length * 10) / 10 || 0;
  return (
    <div className="sound nodrag" title={note} data-made={note ? true : undefined}>
      <audio
        ref={player} src={url} preload="metadata" onError={onBroken} onTimeUpdate={(event) => setAt(event.currentTarget.currentTime)} onLoadedMetadata={(event) => setLength(event.currentTarget.duration)}
        onPlay={() => setPlaying(true)} onPause={() => setPlaying(false)}
      />
      <button className="round" aria-label={`${playing ? t("media.pause") : t("media.play")} ${name}`} onClick={toggle}><Icon name={playing ? "stop" : "play"} size={15} /></button>
      <span className="time" draggable onDragStart={onDrag}>
        {at.toFixed(1)} / {length ? length.toFixed(1) : "–"} s
        {onOpen && <button className="mini" aria-label={`${t("media.open")}: ${name}`} title={t("media.open")} onClick={onOpen}><Icon name="expand" size={14} /></button>}
      </span>
      <div
        className="wave" role="slider" tabIndex={0} aria-label={`${t("media.place")} ${name}`} aria-valuemin={0} aria-valuemax={seconds} aria-valuenow={Math.round(at * 10) / 10} aria-valuetext={`${at.toFixed(1)} s`} aria-describedby={found ? told : undefined}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          point(event);
        }}
        onPointerMove={(event) => event.buttons & 1 && point(event)}
        onKeyDown={(event) => {
          const to = { ArrowRight: at + STEP_S, ArrowLeft: at - STEP_S, Home: 0, End: length }[event.key];
          if (to !== undefined) seek(to);
          else if (event.key === " ") toggle();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <svg viewBox={`0 0 ${BARS} 40`} preserveAspectRatio="none" aria-hidden="true">
          {Array.from({ length: BARS }, (_unused, bar) => {
            const height = Math.max(1, (found?.peaks[bar] ?? 0) * 38);
            return <rect key={bar} x={bar + 0.15} width={0.7} y={20 - height / 2} height={height} className={bar / BARS < share ? "past" : ""} />;
          })}
        </svg>
        {found && <Spectrogram found={found} />}
        <i className="head" style={{ left: `${share * 100}%` }} />
      </div>
      {found && <span id={told} hidden>{found.loudest_hz ? t("media.spectrum", { from: found.lowest_hz, to: Math.round(found.highest_hz), most: Math.round(found.loudest_hz) }) : t("media.silence")}</span>}
    </div>
  );
}

/** Time from left to right, pitch upwards on a scale of octaves, as bright as it is loud. */
function Spectrogram({ found }: { found: Spectrum }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const { cells, columns, rows } = found;
    const picture = new ImageData(columns, rows);
    cells.forEach((value, index) => picture.data.set([...colour(value), 255], index * 4));
    canvas.current?.getContext("2d")?.putImageData(picture, 0, 0);
  }, [found]);
  return (
    <span className="spectrum">
      <canvas ref={canvas} width={found.columns} height={found.rows} data-loudest={Math.round(found.loudest_hz)} />
      {marks(found).map(({ hz, label, at }) => <small key={hz} style={{ top: `${at * 100}%` }}>{label}</small>)}
    </span>
  );
}
