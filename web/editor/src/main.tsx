import "@xyflow/react/dist/style.css";
import "./style/tokens.css";
import "./style/shell.css";
import "./style/canvas.css";
import "./style/fields.css";
import "./style/media.css";
import "./style/panels.css";
import "./style/subgraph.css";

import { createRoot } from "react-dom/client";

import { onKey, onPaste, onPasteKey, onRunKey } from "./state/commands";
import { reviveTalks } from "./state/chat";
import { recover } from "./state/recovery";
import { reviveRuns } from "./state/running";
import { screen } from "./state/screen";
import { server, socket } from "./state/server";
import { settings, show } from "./state/settings";
import { isDirty, workspace } from "./state/workspace";
import { App } from "./view/App";

show();
matchMedia("(prefers-color-scheme: light)").addEventListener("change", show);
addEventListener("keydown", onRunKey, true);
addEventListener("keydown", onKey);
addEventListener("keydown", onPasteKey, true);
addEventListener("paste", onPaste);
addEventListener("online", () => socket.retry());
document.addEventListener("visibilitychange", () => document.hidden || socket.retry());
// work is kept in this browser, but not on the server: say so where nothing keeps it
addEventListener("beforeunload", (event) => {
  if (workspace.get().tabs.some(isDirty) && !("indexedDB" in window)) event.preventDefault();
});

void recover().then(() => {
  createRoot(document.getElementById("root")!).render(<App />);
  if (!settings.get().tourDone) screen.patch({ dialog: "tour" });
  let revived = false;
  server.subscribe(() => {
    if (!revived && server.get().ready) {
      revived = true;
      void reviveRuns().then(reviveTalks);
    }
  });
  socket.open();
});
