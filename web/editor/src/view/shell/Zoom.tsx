/** Zoom: the buttons at the canvas' corner. */

import { useStore as useFlow } from "@xyflow/react";

import { useT } from "../../i18n/t";
import { command } from "../../state/commands";
import { Icon } from "../Icon";

export function Zoom() {
  const t = useT();
  const zoom = useFlow((flow) => Math.round(flow.transform[2] * 100));
  return (
    <div className="zoom" role="toolbar" aria-label={t("zoom")}>
      <button aria-label={t("cmd.zoom.out")} title="Alt+-" onClick={() => command("zoom.out")}><Icon name="minus" size={16} /></button>
      <span>{zoom} %</span>
      <button aria-label={t("cmd.zoom.in")} title="Alt+=" onClick={() => command("zoom.in")}><Icon name="plus" size={16} /></button>
      <button aria-label={t("cmd.fit")} title="." onClick={() => command("fit")}><Icon name="fit" size={16} /></button>
      <button aria-label={t("cmd.arrange")} title="Shift+L" onClick={() => command("arrange")}><Icon name="layout" size={16} /></button>
      <button aria-label={t("cmd.minimap")} title="Alt+Shift+M" onClick={() => command("minimap")}><Icon name="map" size={16} /></button>
    </div>
  );
}
