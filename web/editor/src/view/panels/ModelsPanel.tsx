/** ModelsPanel: the presets and what they lack, the weight files there are, what is in memory now. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import type { DeviceMemory } from "../../api/schema";
import { useT } from "../../i18n/t";
import { isObject } from "../../model/json";
import { queueOf, useLive } from "../../state/live";
import { learnModels, server, tell } from "../../state/server";
import { useStore } from "../../state/store";
import { bytes } from "../media/Result";
import { Timeline } from "./Timeline";

interface Cache {
  memory: { hits: number; misses: number; bytes: number };
  disk: { bytes: number };
}

export function ModelsPanel() {
  const t = useT();
  const { models, presets } = useStore(server);
  const [cache, setCache] = useState<Cache | null>(null);
  const memory = useLive((now) => now);
  const queue = queueOf(memory);
  useEffect(() => void learnModels(), []);
  useEffect(() => void get<{ cache: Cache }>("/api/v1/system").then((found) => setCache(found.cache), tell), [queue]);
  return (
    <div className="scroll">
      {memory && (
        <section>
          <h3>{t("memory")}</h3>
          <dl>
            <dt>{t("memory.process")}</dt><dd>{bytes(memory.process_bytes)}</dd>
            {cache && <><dt>{t("memory.cache")}</dt><dd>{bytes(cache.memory.bytes)} · {t("memory.disk")} {bytes(cache.disk.bytes)}</dd></>}
            {cache && <><dt>{t("memory.hits")}</dt><dd>{cache.memory.hits} / {cache.memory.hits + cache.memory.misses}</dd></>}
          </dl>
          {memory.devices.map((device) => <Device key={device.device} device={device} />)}
          {memory.waiting.map((one) => <p key={one.node} className="line quiet">{t("memory.waits", { node: one.node, device: one.device })}</p>)}
        </section>
      )}
      <Timeline />
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

/** What lies on a device, and what is on its way there. */
function Device({ device }: { device: DeviceMemory }) {
  const used = device.used_bytes + device.reserved_bytes;
  return (
    <div className="device">
      <p className="line"><b>{device.device}</b> <small>{bytes(used)} / {bytes(device.budget_bytes)}</small></p>
      <progress max={device.budget_bytes || 1} value={used} aria-label={device.device} />
      {device.models.map((model) => (
        <p key={model.key} className="line"><i className={`state ${model.leases ? "running" : "succeeded"}`} /> {model.family} <small>{bytes(model.bytes)}{model.share < 1 ? ` · ${Math.round(model.share * 100)} %` : ""} · {model.state}</small></p>
      ))}
      {device.transfers.map((one, index) => <p key={index} className="line quiet">{one.what} {one.model} {bytes(one.bytes)}</p>)}
    </div>
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
