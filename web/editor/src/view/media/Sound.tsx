/** Sound: a waveform that is played and sought with a press. */

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { Icon } from "../Icon";

const BARS = 120;
const LIMIT_BYTES = 40 << 20;
const known = new Map<string, Float32Array>();

export function Sound({ url, name, onBroken }: { url: string; name: string; onBroken: () => void }) {
  const t = useT();
  const player = useRef<HTMLAudioElement>(null);
  const [peaks, setPeaks] = useState<Float32Array | undefined>(known.get(url));
  const [at, setAt] = useState(0);
  const [length, setLength] = useState(0);
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (known.has(url)) return setPeaks(known.get(url));
    let gone = false;
    measure(url).then((found) => {
      known.set(url, found);
      if (!gone) setPeaks(found);
    }).catch(() => undefined);
    return () => {
      gone = true;
    };
  }, [url]);
  const toggle = (): void => {
    const sound = player.current;
    if (!sound) return;
    if (sound.paused) void sound.play().catch(() => undefined);
    else sound.pause();
  };
  const share = length ? at / length : 0;
  return (
    <div className="sound nodrag">
      <audio
        ref={player} src={url} preload="metadata" onError={onBroken} onTimeUpdate={(event) => setAt(event.currentTarget.currentTime)} onLoadedMetadata={(event) => setLength(event.currentTarget.duration)}
        onPlay={() => setPlaying(true)} onPause={() => setPlaying(false)}
      />
      <button className="round" aria-label={`${playing ? t("media.pause") : t("media.play")} ${name}`} onClick={toggle}><Icon name={playing ? "stop" : "play"} size={15} /></button>
      <div
        className="wave" role="slider" tabIndex={0} aria-label={`${t("media.place")} ${name}`} aria-valuemin={0} aria-valuemax={Math.round(length * 10) / 10 || 0} aria-valuenow={Math.round(at * 10) / 10}
        onPointerDown={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          if (player.current && length) player.current.currentTime = ((event.clientX - box.left) / box.width) * length;
        }}
        onKeyDown={(event) => {
          const step = event.key === "ArrowRight" ? 0.5 : event.key === "ArrowLeft" ? -0.5 : 0;
          if (step && player.current) {
            event.stopPropagation();
            player.current.currentTime += step;
          } else if (event.key === " ") {
            event.preventDefault();
            toggle();
          }
        }}
      >
        <svg viewBox={`0 0 ${BARS} 40`} preserveAspectRatio="none" aria-hidden="true">
          {Array.from({ length: BARS }, (_unused, bar) => {
            const height = Math.max(1, (peaks?.[bar] ?? 0) * 38);
            return <rect key={bar} x={bar + 0.15} width={0.7} y={20 - height / 2} height={height} className={bar / BARS < share ? "past" : ""} />;
          })}
        </svg>
      </div>
      <span className="time">{at.toFixed(1)} / {length ? length.toFixed(1) : "–"} s</span>
    </div>
  );
}

/** The loudest sample of each of the bars, 0..1. */
async function measure(url: string): Promise<Float32Array> {
  const answer = await fetch(url);
  if (!answer.ok || Number(answer.headers.get("Content-Length") ?? 0) > LIMIT_BYTES) return new Float32Array(BARS);
  const context = new OfflineAudioContext(1, 1, 22050);
  const sound = await context.decodeAudioData(await answer.arrayBuffer());
  const samples = sound.getChannelData(0);
  const peaks = new Float32Array(BARS);
  const stride = Math.max(1, Math.floor(samples.length / BARS / 400));
  for (let index = 0; index < samples.length; index += stride) {
    const bar = Math.min(BARS - 1, Math.floor((index / samples.length) * BARS));
    peaks[bar] = Math.max(peaks[bar]!, Math.abs(samples[index]!));
  }
  const top = Math.max(0.01, ...peaks);
  return peaks.map((peak) => peak / top);
}
