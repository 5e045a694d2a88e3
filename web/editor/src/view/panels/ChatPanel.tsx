/** ChatPanel: talk with the workflow of the active tab. Under each answer the trace of the router: what it chose, when, how sure. */

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { bindChat } from "../../model/chat";
import { command } from "../../state/commands";
import { replyOf, say, startAnew, talks, talkOf, type Turn } from "../../state/chat";
import { DRAG_TYPE, nameOf, refOf } from "../../state/dragged";
import { bringIn, openNamed } from "../../state/files";
import { ENDED } from "../../state/run";
import { useRun } from "../../state/runs";
import { composing } from "../../state/keys";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";
import { activeOf, workspace } from "../../state/workspace";
import { Icon } from "../Icon";
import { Media } from "../media/Media";
import { Preview } from "../media/Result";

export function ChatPanel() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const talk = useStore(talks, () => talkOf(tab.id));
  const binding = bindChat(tab.history.present);
  const end = useRef<HTMLDivElement>(null);
  const last = talk.turns[talk.turns.length - 1];
  const state = useRun(last?.run ?? null);
  useEffect(() => {
    end.current?.scrollIntoView?.({ block: "end" });
  }, [talk.turns.length, state]);
  /** A picture has its height when it is there; who has scrolled back stays there. */
  const grown = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }: React.SyntheticEvent<HTMLElement>): void => {
    if (scrollHeight - scrollTop - clientHeight < 600) end.current?.scrollIntoView?.({ block: "end" });
  };
  return (
    <aside className="chat" aria-label={t("panel.chat")}>
      <header>
        <h2>{t("panel.chat")}</h2>
        {talk.turns.length > 0 && <button onClick={() => startAnew(tab.id)}>{t("chat.new")}</button>}
        <button className="icon-button" aria-label={t("close")} onClick={() => screen.patch({ chat: false })}><Icon name="close" size={15} /></button>
      </header>
      {"missing" in binding ? (
        <div className="scroll"><p className="quiet">{t("chat.unbound", { type: binding.missing })}</p><button className="primary" onClick={() => void openNamed("chat")}>{t("chat.open")}</button></div>
      ) : (
        <>
          <div className="scroll turns" role="log" aria-label={t("chat.log")} onLoadCapture={grown} onLoadedMetadataCapture={grown}>
            {!talk.turns.length && <p className="quiet">{t("chat.empty")}</p>}
            {talk.turns.map((turn) => <TurnView key={turn.run} turn={turn} />)}
            <div ref={end} />
          </div>
          <Composer busy={state !== undefined && !ENDED.has(state.status)} />
        </>
      )}
    </aside>
  );
}

function TurnView({ turn }: { turn: Turn }) {
  const t = useT();
  const state = useRun(turn.run);
  const reply = replyOf(turn, state);
  const drawing = Object.entries(state?.nodes ?? {}).filter(([, node]) => node.status === "running" && node.preview);
  const at = Object.entries(state?.nodes ?? {}).find(([, node]) => node.status === "running" && node.total);
  return (
    <>
      <div className="said">
        {turn.files.map((file) => <span key={file} className="chip">{/\.(png|jpe?g|webp|gif)$/i.test(file) ? <Media file={refOf(file, "image/*")} small /> : file}</span>)}
        {turn.text}
      </div>
      <div className={`reply ${reply.live ? "live" : ""}`}>
        <p className="words">{reply.text || (reply.live ? t("chat.thinking") : "")}</p>
        {reply.media.map((file) => <Media key={file.name} file={file} group={reply.media} />)}
        {drawing.map(([id, node]) => <Preview key={id} preview={node.preview!} />)}
        {reply.live && at && <progress max={at[1].total} value={at[1].done} aria-label={at[0]} />}
        {reply.error && <p className="failure">{reply.error}</p>}
        {reply.trace && <details className="trace"><summary>{t("chat.trace")}</summary><Trace text={reply.trace} /></details>}
      </div>
    </>
  );
}

/** What the trace calls the modalities. */
const SAID: Record<string, string> = { picture: "image", video: "video", sound: "audio" };

/** The trace, a line per fact; how sure the model was is drawn as a bar. */
function Trace({ text }: { text: string }) {
  return (
    <ul>
      {text.split("\n").filter((line) => line.trim()).map((line, index) => {
        const sure = /\(p = ([\d.e-]+)\)/.exec(line);
        const kind = /\b(picture|video|sound)\b/.exec(line)?.[1];
        return <li key={index} className={kind && SAID[kind]}>{line}{sure && <meter min={0} max={1} value={Number(sure[1])} aria-label={sure[0].slice(1, -1)} />}</li>;
      })}
    </ul>
  );
}

function Composer({ busy }: { busy: boolean }) {
  const t = useT();
  const [text, setText] = useState("");
  const [files, setFiles] = useState<string[]>([]);
  const [recorder, setRecorder] = useState<MediaRecorder | null>(null);
  const chooser = useRef<HTMLInputElement>(null);
  const take = async (chosen: Iterable<File>): Promise<void> => {
    const list = [...chosen];
    if (!list.length) return;
    const found = await bringIn(list);
    setFiles((now) => [...now, ...found.map(nameOf)]);
  };
  const submit = async (): Promise<void> => {
    if (busy || (!text.trim() && !files.length)) return;
    if (await say(text, files)) {
      setText("");
      setFiles([]);
    }
  };
  const record = async (): Promise<void> => {
    if (recorder) return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const made = new MediaRecorder(stream);
      const parts: Blob[] = [];
      made.ondataavailable = (event) => parts.push(event.data);
      made.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        setRecorder(null);
        void take([new File(parts, `voice-${Date.now()}.${/mp4/.test(made.mimeType) ? "m4a" : /ogg/.test(made.mimeType) ? "ogg" : "weba"}`, { type: made.mimeType })]);
      };
      made.start();
      setRecorder(made);
    } catch {
      setRecorder(null);
    }
  };
  return (
    <form
      className="composer" onSubmit={(event) => { event.preventDefault(); void submit(); }} onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        const ours = event.dataTransfer.getData(DRAG_TYPE);
        if (ours) setFiles((now) => [...now, ours]);
        else void take(event.dataTransfer.files);
      }}
      onPaste={(event) => event.clipboardData.files.length && void take(event.clipboardData.files)}
    >
      {files.length > 0 && <div className="chips">{files.map((file, index) => <button type="button" key={index} className="chip" title={t("file.remove")} onClick={() => setFiles(files.filter((_one, at) => at !== index))}>{file} ×</button>)}</div>}
      <textarea
        aria-label={t("chat.message")} placeholder={t("chat.message")} rows={3} value={text} onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          event.stopPropagation();
          if (event.key === "Enter" && !event.shiftKey && !composing(event)) {
            event.preventDefault();
            void submit();
          }
        }}
      />
      <div className="buttons">
        <button type="button" className="icon-button" aria-label={t("file.bring")} onClick={() => chooser.current?.click()}><Icon name="clip" /></button>
        <button type="button" className="icon-button" aria-label={t(recorder ? "chat.record.stop" : "chat.record")} aria-pressed={recorder !== null} onClick={() => void record()}><Icon name={recorder ? "stop" : "mic"} /></button>
        <input ref={chooser} type="file" hidden multiple onChange={(event) => void take(event.target.files ?? [])} />
        <span className="spring" />
        {busy && <button type="button" onClick={() => command("cancel")}><Icon name="stop" size={13} /> {t("cmd.cancel")}</button>}
        <button className="primary" disabled={busy || (!text.trim() && !files.length)}><Icon name="send" size={15} /> {t("chat.send")}</button>
      </div>
    </form>
  );
}
