/** Heard: the spectrum of a file, computed once, in a worker that is started by the first sound. */

import type { Spectrum } from "../../model/spectrum";

const LIMIT_BYTES = 40 << 20;
const RATE = 44_100;
const KEPT = 40;

const known = new Map<string, Promise<Spectrum | undefined>>();
const waiting = new Map<number, (found: Spectrum) => void>();
let worker: Worker | undefined;
let count = 0;

/** Undefined where the file is too large, or nothing that this browser can decode. */
export function heard(url: string): Promise<Spectrum | undefined> {
  let found = known.get(url);
  if (!found) {
    found = listen(url).catch(() => undefined);
    known.set(url, found);
    if (known.size > KEPT) known.delete(known.keys().next().value!);
  }
  return found;
}

async function listen(url: string): Promise<Spectrum | undefined> {
  const answer = await fetch(url);
  if (!answer.ok || Number(answer.headers.get("Content-Length") ?? 0) > LIMIT_BYTES) return undefined;
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await answer.arrayBuffer());
  const channels = Array.from({ length: Math.min(2, sound.numberOfChannels) }, (_unused, channel) => sound.getChannelData(channel).slice());
  worker ??= start();
  const id = ++count;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    worker!.postMessage({ id, channels, rate: sound.sampleRate }, channels.map((samples) => samples.buffer));
  });
}

function start(): Worker {
  const made = new Worker(new URL("./spectrum.worker.ts", import.meta.url), { type: "module" });
  made.onmessage = (event: MessageEvent<{ id: number; found: Spectrum }>) => {
    waiting.get(event.data.id)?.(event.data.found);
    waiting.delete(event.data.id);
  };
  return made;
}
