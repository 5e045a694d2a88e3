/** NoteView: words on the canvas, in Markdown. */

import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";

import { useT } from "../../i18n/t";
import { setPart } from "../../model/edit";
import { change } from "../../state/workspace";
import { composing } from "../../state/keys";
import { Markdown } from "../media/Markdown";
import { focusNow, leave, useEditing } from "../widgets/EditableText";
import type { NoteNode } from "./flow";

export const NoteView = memo(function NoteView({ id, data: { note }, selected }: NodeProps<NoteNode>) {
  const t = useT();
  const [editing, setEditing] = useEditing(id);
  return (
    <div className={`note ${selected ? "selected" : ""}`} style={{ width: note.width, height: note.height, "--tint": note.color } as React.CSSProperties} data-words={id} onDoubleClick={() => setEditing(true)}>
      <NodeResizer
        isVisible={selected} minWidth={120} minHeight={60}
        onResizeEnd={(_event, frame) => change("resize", (doc) => setPart(doc, id, { x: Math.round(frame.x), y: Math.round(frame.y), width: Math.round(frame.width), height: Math.round(frame.height) }))}
      />
      {editing ? (
        <textarea
          className="nodrag nowheel nopan" ref={focusNow} aria-label={t("note.text")} defaultValue={note.text}
          onKeyDown={(event) => event.key === "Escape" && !composing(event) && leave(event.currentTarget)}
          onBlur={(event) => {
            const text = event.currentTarget.value;
            setEditing(false);
            if (text !== note.text) change("note", (doc) => setPart(doc, id, { text }));
          }}
        />
      ) : note.text ? <Markdown text={note.text} /> : <p className="quiet">{t("note.empty")}</p>}
    </div>
  );
});
