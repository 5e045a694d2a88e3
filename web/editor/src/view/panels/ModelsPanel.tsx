/** ModelsPanel: the presets and what they lack, the weight files there are, what is in memory now. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import { useT } from "../../i18n/t";
import { isObject } from "../../model/json";
import { learnModels, server, tell } from "../../state/server";
import { useStore } from "../../state/store";
import { bytes } from "../media/Result";

interface System {
  devices: string[];
  models: Record<string, unknown>[];
  cache: { memory: { hits: number; misses: number; bytes: number }; disk: { bytes: number } };
  server: { rss_bytes: number; uptime_s: number };
}

export function ModelsPanel() {
  const t = useT();
  const { models, presets } = useStore(server);
  const [system, setSystem] = useState<System | null>(null);
  useEffect(() => {
    void learnModels();
    const look = (): void => void get<System>("/api/v1/system").then(setSystem, tell);
    look();
    const timer = setInterval(look, 3000);
    return () => clearInterval(timer);
  }, []);
  return (
    <div className="scroll">
      {system && (
        <section>
          <h3>{t("memory")}</h3>
          <dl>
            <dt>{t("memory.devices")}</dt><dd>{system.devices.join(", ")}</dd>
            <dt>{t("memory.process")}</dt><dd>{bytes(system.server.rss_bytes)}</dd>
            <dt>{t("memory.cache")}</dt><dd>{bytes(system.cache.memory.bytes)} · {t("memory.disk")} {bytes(system.cache.disk.bytes)}</dd>
            <dt>{t("memory.hits")}</dt><dd>{system.cache.memory.hits} / {system.cache.memory.hits + system.cache.memory.misses}</dd>
          </dl>
          {system.models.map((model, index) => <Loaded key={index} model={model} />)}
        </section>
      )}
      <section>
        <h3>{t("models.presets")}</h3>
        {presets.map((preset) => <Preset key={String(preset["preset"])} preset={preset} />)}
      </section>
      <section>
        <h3>{t("models.files")}</h3>
        {models.map((model) => <p key={model.name} className="line">{model.name} <small>{bytes(model.bytes)}{model.loadable ? "" : ` · ${t("models.convert")}`}</small></p>)}
        {!models.length && <p className="quiet">{t("models.none")}</p>}
      </section>
    </div>
  );
}

/** What lies on a device: how much of its budget is taken, and by how many models. */
function Loaded({ model }: { model: Record<string, unknown> }) {
  const [used, budget] = [Number(model["used_bytes"] ?? 0) + Number(model["reserved_bytes"] ?? 0), Number(model["budget_bytes"] ?? 0)];
  const models = Array.isArray(model["models"]) ? model["models"].length : 0;
  return (
    <p className="line">
      {String(model["device"])} <small>{bytes(used)} / {bytes(budget)} · {models}</small>
      <progress max={budget || 1} value={used} aria-label={String(model["device"])} />
    </p>
  );
}

function Preset({ preset }: { preset: Record<string, unknown> }) {
  const t = useT();
  const parts = Array.isArray(preset["parts"]) ? preset["parts"].filter(isObject) : [];
  const made = preset["made"] === true;
  const there = parts.filter((part) => part["present"]).length;
  return (
    <details>
      <summary>{String(preset["preset"])} <small>{made ? t("models.made") : preset["complete"] ? t("models.complete") : `${there}/${parts.length}`}</small></summary>
      {typeof preset["description"] === "string" && <p className="quiet">{preset["description"]}</p>}
      {parts.map((part, index) => <p key={index} className="line"><i className={`state ${made || part["present"] ? "succeeded" : "failed"}`} /> {String(part["part"])} <small>{made || part["present"] ? "" : t("models.missing")}</small></p>)}
    </details>
  );
}
