/** SearchBox: add a node by its name; where a link was dropped, only what fits it, and the link is made. */

import { useEffect, useMemo, useRef, useState } from "react";

import { t as word, useT } from "../../i18n/t";
import type { Doc } from "../../model/document";
import { addNode, connect } from "../../model/edit";
import type { NodeType } from "../../model/nodetype";
import { portFor, search } from "../../model/search";
import { composing } from "../../state/keys";
import { screen, type SearchRequest } from "../../state/screen";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { addFromLibrary } from "../../state/subgraphs";
import { change, select } from "../../state/workspace";
import { hueOf } from "./hue";

const SHOWN = 60;

export function SearchBox() {
  const request = useStore(screen, (now) => now.search);
  return request ? <Open request={request} /> : null;
}

function Open({ request }: { request: SearchRequest }) {
  const t = useT();
  const catalog = useStore(server, (now) => now.catalog);
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const found = useMemo(() => search(catalog, text, request.wanted).slice(0, SHOWN), [catalog, text, request.wanted]);
  const close = (): void => screen.patch({ search: null });
  useEffect(() => {
    const away = (event: PointerEvent): void => {
      if (!box.current?.contains(event.target as Node)) close();
    };
    addEventListener("pointerdown", away, true);
    return () => removeEventListener("pointerdown", away, true);
  }, []);
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView?.({ block: "nearest" });
  }, [at]);
  const add = (type: NodeType | undefined): void => {
    close();
    if (!type) return;
    let made = "";
    const shift = request.wanted?.side === "output" ? -300 : 0;
    const place = { x: request.place.x + shift, y: request.place.y - 30 };
    const linked = (doc: Doc, id: string): Doc => {
      const port = request.wanted && portFor(catalog, type, request.wanted)?.port;
      if (!request.from || !port) return doc;
      return request.wanted!.side === "input" ? connect(doc, request.from.node, request.from.port, id, port) : connect(doc, id, port, request.from.node, request.from.port);
    };
    if (type.library) {
      void addFromLibrary(type.id, place, linked);
      return;
    }
    change(word("edit.add"), (doc) => {
      const [next, id] = addNode(doc, type.id, place);
      made = id;
      return linked(next, id);
    });
    select([made]);
    requestAnimationFrame(() => document.querySelector<HTMLElement>(`.react-flow__node[data-id="${made}"]`)?.focus());
  };
  const left = Math.max(8, Math.min(request.at.x, innerWidth - 400));
  const top = Math.max(8, Math.min(request.at.y, innerHeight - 430));
  return (
    <div ref={box} className="search" style={{ left, top }} role="dialog" aria-label={t("search.add")}>
      <input
        autoFocus role="combobox" aria-expanded="true" aria-controls="search-list" aria-activedescendant={`search-${at}`} aria-label={t("search.add")}
        placeholder={request.wanted ? t(request.wanted.side === "input" ? "search.takes" : "search.gives", { kind: request.wanted.kind }) : t("search.add")}
        value={text} onChange={(event) => { setText(event.target.value); setAt(0); }}
        onKeyDown={(event) => {
          event.stopPropagation();
          if (composing(event)) return;
          if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
          else if (event.key === "Enter") add(found[at]);
          else if (event.key === "Escape") close();
          else return;
          event.preventDefault();
        }}
      />
      <div ref={list} id="search-list" role="listbox" aria-label={t("search.add")} tabIndex={-1}>
        {found.map((type, index) => (
          <div key={type.id} id={`search-${index}`} role="option" aria-selected={index === at} onPointerMove={() => setAt(index)} onClick={() => add(type)} style={{ "--hue": hueOf(type.category) } as React.CSSProperties}>
            <b>{type.title}</b>
            <small>{type.category}</small>
          </div>
        ))}
        {!found.length && <p className="quiet">{t("search.none")}</p>}
      </div>
      {found[at] && <p className="about">{found[at].description.split("\n")[0]}</p>}
    </div>
  );
}
