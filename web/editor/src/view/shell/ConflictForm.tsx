/** ConflictForm: two tabs, one workflow: what was kept meanwhile is not written over unasked. */

import { useT } from "../../i18n/t";
import { keepMine, takeTheirs } from "../../state/files";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";

export function ConflictForm() {
  const t = useT();
  const conflict = useStore(screen, (now) => now.conflict);
  if (!conflict) return null;
  const close = (work: () => void) => () => {
    screen.patch({ dialog: null, conflict: null });
    work();
  };
  const choices = [
    ["conflict.difference", "conflict.difference.why", () => screen.patch({ sheet: { kind: "compare", before: { kind: "saved", name: conflict.name }, after: { kind: "tab", id: conflict.tab } } })],
    ["conflict.mine", "conflict.mine.why", () => void keepMine(conflict)],
    ["conflict.theirs", "conflict.theirs.why", () => void takeTheirs(conflict)],
    ["conflict.as", "conflict.as.why", () => screen.patch({ dialog: "save" })],
  ] as const;
  return (
    <div className="form conflict">
      <p>{t("conflict.text", { name: conflict.name })}</p>
      {choices.map(([word, why, run], index) => <button key={word} autoFocus={index === 0} onClick={close(run)}><b>{t(word)}</b><small>{t(why)}</small></button>)}
    </div>
  );
}
