/** FileField: a file of the input folder: chosen from what is there, brought in, or dropped here, results included. */

import { useRef, useState } from "react";

import { get } from "../../api/http";
import type { File as ApiFile } from "../../api/schema";
import { useT } from "../../i18n/t";
import type { Json } from "../../model/json";
import { DRAG_TYPE, nameOf, refOf } from "../../state/dragged";
import { bringIn } from "../../state/files";
import { screen } from "../../state/screen";
import { tell } from "../../state/server";
import { Icon } from "../Icon";
import { Media } from "../media/Media";
import { ComboField } from "./ComboField";

interface Props {
  label: string;
  name: string;
  value: string;
  accept: string;
  onChange: (value: string) => void;
  /** what painting a mask does here, where it can be done */
  onPaint?: () => void;
}

export function FileField({ label, name, value, accept, onChange, onPaint }: Props) {
  const t = useT();
  const chooser = useRef<HTMLInputElement>(null);
  const [options, setOptions] = useState<string[]>([]);
  const [over, setOver] = useState(false);
  const list = async (): Promise<void> => {
    try {
      const [input, output] = await Promise.all(["input", "output"].map((folder) => get<{ files: ApiFile[] }>("/api/v1/files/{folder}", { folder }, { limit: 300 })));
      const all = [...(input?.files ?? []), ...(output?.files ?? [])];
      setOptions(all.filter((file) => accept === "*" || file.media_type.startsWith(accept)).map(nameOf));
    } catch (error) {
      tell(error);
    }
  };
  const take = async (files: FileList | null): Promise<void> => {
    const [file] = files?.length ? await bringIn([...files].slice(0, 1)) : [];
    if (file) onChange(nameOf(file));
  };
  return (
    <div
      className={`file ${over ? "over" : ""}`} onPointerEnter={() => void list()} onFocus={() => options.length || void list()}
      onDragOver={(event) => { event.preventDefault(); event.stopPropagation(); setOver(true); }} onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        setOver(false);
        const ours = event.dataTransfer.getData(DRAG_TYPE);
        if (ours) onChange(ours);
        else void take(event.dataTransfer.files);
      }}
    >
      <ComboField label={label} name={name} value={value} options={options} onChange={onChange} free />
      {value && /^(image|audio|video)$/.test(accept) && (
        <button className="mini thumb" title={t("media.open")} aria-label={`${name}: ${t("media.open")}`} onClick={() => screen.patch({ viewing: { files: [refOf(value, `${accept}/*`)], index: 0 } })}>
          {accept === "image" ? <Media key={value} file={refOf(value, "image/*")} small /> : <Icon name="expand" size={14} />}
        </button>
      )}
      {onPaint && <button className="mini" title={t("mask.paint")} aria-label={`${name}: ${t("mask.paint")}`} onClick={onPaint}><Icon name="brush" size={15} /></button>}
      <button className="mini" title={t("file.bring")} aria-label={`${name}: ${t("file.bring")}`} onClick={() => chooser.current?.click()}><Icon name="plus" size={15} /></button>
      <input ref={chooser} type="file" hidden accept={accept === "*" ? undefined : `${accept}/*`} onChange={(event) => void take(event.target.files)} />
    </div>
  );
}

/** Several files, in an order. */
export function FilesField({ label, name, value, accept, onChange }: Omit<Props, "value" | "onChange" | "onPaint"> & { value: Json | undefined; onChange: (value: Json) => void }) {
  const t = useT();
  const chooser = useRef<HTMLInputElement>(null);
  const files = Array.isArray(value) ? value.map(String) : value ? [String(value)] : [];
  const take = async (chosen: FileList | null): Promise<void> => {
    const found = chosen?.length ? await bringIn([...chosen]) : [];
    if (found.length) onChange([...files, ...found.map(nameOf)]);
  };
  return (
    <div
      className="file list" onDragOver={(event) => { event.preventDefault(); event.stopPropagation(); }}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        const ours = event.dataTransfer.getData(DRAG_TYPE);
        if (ours) onChange([...files, ours]);
        else void take(event.dataTransfer.files);
      }}
    >
      <span className="port">{label}</span>
      <span className="chips">
        {files.map((file, index) => (
          <button key={index} className="chip" title={t("file.remove")} onClick={() => onChange(files.filter((_one, at) => at !== index))}>{file} ×</button>
        ))}
      </span>
      <button className="mini" title={t("file.bring")} aria-label={`${name}: ${t("file.bring")}`} onClick={() => chooser.current?.click()}><Icon name="plus" size={15} /></button>
      <input ref={chooser} type="file" multiple hidden accept={accept === "*" ? undefined : `${accept}/*`} onChange={(event) => void take(event.target.files)} />
    </div>
  );
}
