/** Field: the right one for an input, by its kind and widget. A linked input shows only its name. */

import { memo } from "react";

import { useT } from "../../i18n/t";
import type { DocNode } from "../../model/document";
import { setUi, setValue } from "../../model/edit";
import type { Json } from "../../model/json";
import { labelOf, valueOf, type Input } from "../../model/nodetype";
import { CONTROLS, randomSeed } from "../../model/seed";
import { MASK, paintFor, PICTURE } from "../../state/painting";
import { useStore } from "../../state/store";
import { marked } from "../../state/sweep";
import { change } from "../../state/workspace";
import { Icon } from "../Icon";
import { ColorField } from "./ColorField";
import { ComboField } from "./ComboField";
import { FileField, FilesField } from "./FileField";
import { JsonField } from "./JsonField";
import { NumberField } from "./NumberField";
import { TextField } from "./TextField";

interface Props {
  id: string;
  node: DocNode;
  input: Input;
  wrong: boolean;
}

export const Field = memo(function Field({ id, node, input, wrong }: Props) {
  const axis = useStore(marked, (all) => all.has(`${id}.${input.name}`));
  const label = labelOf(input);
  if (node.links && input.name in node.links) return <span className="port">{label}</span>;
  const value = valueOf(node, input);
  const set = (next: Json | undefined): void => change("value", (doc) => setValue(doc, id, input.name, next), `${id}.${input.name}`);
  return (
    <div className={`field nodrag ${wrong ? "wrong" : ""} ${axis ? "axis" : ""}`} data-input={input.name} title={input.widget?.placeholder}>
      <Inner {...{ id, node, input, label, value, set }} />
    </div>
  );
});

interface InnerProps {
  id: string;
  node: DocNode;
  input: Input;
  label: string;
  value: Json | undefined;
  set: (value: Json | undefined) => void;
}

function Inner({ id, node, input, label, value, set }: InnerProps) {
  const widget = input.widget ?? {};
  const name = `${node.title || node.type} ${label}`;
  if (input.as_list && widget.upload) return <FilesField label={label} name={name} value={value} accept={widget.upload} onChange={set} />;
  if (input.as_list) return <JsonField label={label} name={name} value={value} onChange={set} />;
  switch (input.kind) {
    case "INT":
    case "FLOAT":
      if (widget.control === "seed") return <SeedField {...{ id, node, input, label, value, set }} />;
      return <NumberField label={label} name={name} value={value} whole={input.kind === "INT"} widget={widget} onChange={set} />;
    case "BOOLEAN":
      return (
        <label className="check">
          <span>{label}</span>
          <input type="checkbox" role="switch" aria-label={name} checked={value === true} onChange={(event) => set(event.target.checked)} />
        </label>
      );
    case "COMBO":
      return <ComboField label={label} name={name} value={String(value ?? "")} options={widget.options ?? []} said={widget.said} onChange={set} />;
    case "STRING":
      if (widget.upload) return <FileField label={label} name={name} value={String(value ?? "")} accept={widget.upload} onChange={set} onPaint={node.type === MASK || (node.type === PICTURE && value) ? () => paintFor(id) : undefined} />;
      if (widget.type === "color") return <ColorField label={label} name={name} value={String(value ?? "")} onChange={set} />;
      return <TextField label={label} name={name} value={String(value ?? "")} multiline={widget.multiline ?? false} placeholder={widget.placeholder} onChange={set} />;
    default:
      return <JsonField label={label} name={name} value={value} onChange={set} />;
  }
}

function SeedField({ id, node, input, label, value, set }: InnerProps) {
  const t = useT();
  const control = node.ui?.control?.[input.name] ?? "fixed";
  return (
    <div className="seed">
      <NumberField label={label} name={`${node.title || node.type} ${label}`} value={value} whole widget={input.widget ?? {}} onChange={set} />
      <button className="mini" title={t("seed.new")} aria-label={t("seed.new")} onClick={() => set(randomSeed())}><Icon name="dice" size={15} /></button>
      <select
        aria-label={t("seed.after")} title={t("seed.after")} value={control}
        onChange={(event) => change("seed", (doc) => setUi(doc, id, { control: { ...node.ui?.control, [input.name]: event.target.value as "fixed" } }))}
      >
        {CONTROLS.map((word) => <option key={word} value={word}>{t(`seed.${word}`)}</option>)}
      </select>
    </div>
  );
}
