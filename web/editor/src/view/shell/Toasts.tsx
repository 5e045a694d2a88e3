/** Toasts: short news, with what to do about it. */

import { useT } from "../../i18n/t";
import { dismiss, screen } from "../../state/screen";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";

export function Toasts() {
  const t = useT();
  const toasts = useStore(screen, (now) => now.toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {toasts.map((one) => (
        <div key={one.id} className={`toast ${one.kind}`}>
          <div><b>{one.text}</b>{one.remedy && <p>{one.remedy}</p>}</div>
          {one.action && <button onClick={() => { one.action!.run(); dismiss(one.id); }}>{one.action.label}</button>}
          <button className="icon-button" aria-label={t("close")} onClick={() => dismiss(one.id)}><Icon name="close" size={13} /></button>
        </div>
      ))}
    </div>
  );
}
