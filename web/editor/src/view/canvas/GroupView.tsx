/** GroupView: a coloured frame around nodes, which move with it. */

import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";

import { useT } from "../../i18n/t";
import { setPart } from "../../model/edit";
import { change } from "../../state/workspace";
import { EditableText } from "../widgets/EditableText";
import type { GroupNode } from "./flow";

export const GroupView = memo(function GroupView({ id, data: { group }, selected }: NodeProps<GroupNode>) {
  const t = useT();
  return (
    <div className={`group ${selected ? "selected" : ""}`} style={{ width: group.width, height: group.height, "--tint": group.color } as React.CSSProperties}>
      <NodeResizer
        isVisible={selected} minWidth={160} minHeight={90}
        onResizeEnd={(_event, frame) => change("resize", (doc) => setPart(doc, id, { x: Math.round(frame.x), y: Math.round(frame.y), width: Math.round(frame.width), height: Math.round(frame.height) }))}
      />
      <div className="group-head">
        <EditableText className="group-title" part={id} value={group.title} label={t("group.title")} onChange={(title) => change("title", (doc) => setPart(doc, id, { title }))} />
      </div>
    </div>
  );
});
