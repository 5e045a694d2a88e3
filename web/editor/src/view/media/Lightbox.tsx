/** Lightbox: a result in full size: zoom with the wheel, move with the pointer, arrows to the next, two side by side under a slider. */

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { drop } from "../../state/files";
import { addLoader } from "../../state/files";
import { paintOver } from "../../state/painting";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { kindOf, Media, urlOf, useShowable } from "./Media";
import { useFocusTrap } from "../shell/focus";

export function Lightbox() {
  const viewing = useStore(screen, (now) => now.viewing);
  return viewing ? <Open key={viewing.files[viewing.index]?.name} {...viewing} /> : null;
}

function Open({ files, index }: NonNullable<ReturnType<typeof screen.get>["viewing"]>) {
  const t = useT();
  const file = files[index]!;
  const [zoom, setZoom] = useState(1);
  const [at, setAt] = useState({ x: 0, y: 0 });
  const [split, setSplit] = useState<number | null>(null);
  const hand = useRef<{ x: number; y: number } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  useFocusTrap(box);
  const close = (): void => screen.patch({ viewing: null });
  const turn = (step: number): void => screen.patch({ viewing: { files, index: (index + step + files.length) % files.length } });
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      if (event.key === "Escape") close();
      else if ((event.target as HTMLElement).closest?.("[role=slider], input, video, select, .scrolls")) return; // they have a use for arrows
      else if (event.key === "ArrowRight") turn(1);
      else if (event.key === "ArrowLeft") turn(-1);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    addEventListener("keydown", key, true);
    return () => removeEventListener("keydown", key, true);
  });
  const image = kindOf(file) === "image";
  const shown = useShowable(file);
  const other = files.find((one, number) => number !== index && kindOf(one) === "image");
  const style = { transform: `translate(${at.x}px, ${at.y}px) scale(${zoom})`, imageRendering: zoom > 3 ? "pixelated" : undefined } as React.CSSProperties;
  return (
    <div ref={box} className="lightbox" role="dialog" aria-modal="true" aria-label={file.name}>
      <div
        className="stage" onWheel={(event) => setZoom(Math.min(32, Math.max(0.2, zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2))))}
        onPointerDown={(event) => { if (!image) return; hand.current = { x: event.clientX - at.x, y: event.clientY - at.y }; event.currentTarget.setPointerCapture(event.pointerId); }}
        onPointerMove={(event) => hand.current && setAt({ x: event.clientX - hand.current.x, y: event.clientY - hand.current.y })}
        onPointerUp={() => (hand.current = null)} onDoubleClick={() => { setZoom(1); setAt({ x: 0, y: 0 }); }}
      >
        {!image || shown.broken ? <Media file={file} /> : <img src={shown.url} alt={file.name} style={style} draggable={false} onError={shown.onBroken} />}
        {image && other && split !== null && <img className="over" src={other.url ?? urlOf(other)} alt={other.name} style={{ ...style, clipPath: `inset(0 0 0 ${split}%)` }} draggable={false} />}
      </div>
      <footer>
        {files.length > 1 && <button aria-label={t("previous")} onClick={() => turn(-1)}>‹</button>}
        <span>{file.name}{file.width ? ` · ${file.width} × ${file.height}` : ""}{image ? ` · ${Math.round(zoom * 100)} %` : ""}</span>
        {files.length > 1 && <button aria-label={t("next")} onClick={() => turn(1)}>›</button>}
        {image && other && <label>{t("media.compare")} <input type="range" min={0} max={100} value={split ?? 100} aria-label={t("media.compare")} onChange={(event) => setSplit(Number(event.target.value))} /></label>}
        {!file.url && <button onClick={() => void fetchFile(urlOf(file), file.name).then((found) => drop([found], { x: 0, y: 0 })).then(close)}>{t("media.workflow")}</button>}
        {image && !file.url && <button onClick={() => { close(); paintOver(file); }}>{t("mask.paint")}</button>}
        {!file.url && <button onClick={() => { addLoader(file, { x: 0, y: 0 }); close(); }}>{t("media.use")}</button>}
        <a href={file.url ?? urlOf(file)} download={file.name.split("/").pop()}>{t("media.download")}</a>
        <button className="close" aria-label={t("close")} onClick={close}><Icon name="close" /></button>
      </footer>
    </div>
  );
}

async function fetchFile(url: string, name: string): Promise<File> {
  const answer = await fetch(url);
  return new File([await answer.blob()], name.split("/").pop() ?? name);
}
