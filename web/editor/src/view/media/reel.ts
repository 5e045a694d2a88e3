/** Reel: frames of a film, evenly taken from its beginning to its end, as one row of pictures. */

export const CELLS = 10;
const CELL = 96;
const KEPT = 30;
const SLOW_MS = 8000;

const known = new Map<string, Promise<HTMLCanvasElement | undefined>>();

/** Undefined where the browser cannot play it. One film after another: each needs a decoder. */
export function reel(url: string): Promise<HTMLCanvasElement | undefined> {
  let found = known.get(url);
  if (!found) {
    const before = [...known.values()].pop() ?? Promise.resolve(undefined);
    found = before.then(() => take(url)).catch(() => undefined);
    known.set(url, found);
    if (known.size > KEPT) known.delete(known.keys().next().value!);
  }
  return found;
}

async function take(url: string): Promise<HTMLCanvasElement> {
  const film = document.createElement("video");
  film.muted = true;
  film.preload = "auto";
  film.src = url;
  try {
    await heard(film, "loadeddata");
    const canvas = document.createElement("canvas");
    const scale = CELL / Math.max(film.videoWidth, film.videoHeight);
    const [width, height] = [Math.max(1, Math.round(film.videoWidth * scale)), Math.max(1, Math.round(film.videoHeight * scale))];
    canvas.width = width * CELLS;
    canvas.height = height;
    const context = canvas.getContext("2d")!;
    for (let cell = 0; cell < CELLS; cell++) {
      const sought = heard(film, "seeked");
      film.currentTime = ((cell + 0.5) / CELLS) * (Number.isFinite(film.duration) ? film.duration : 0);
      await sought;
      context.drawImage(film, cell * width, 0, width, height);
    }
    return canvas;
  } finally {
    film.removeAttribute("src");
    film.load(); // lets go of the decoder
  }
}

function heard(film: HTMLVideoElement, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("slow")), SLOW_MS);
    film.addEventListener(event, () => { clearTimeout(late); resolve(); }, { once: true });
    film.addEventListener("error", () => { clearTimeout(late); reject(new Error("broken")); }, { once: true });
  });
}
