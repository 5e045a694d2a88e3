/** Markdown: a small part of it, made into elements and never into HTML, so that no text can do anything but be read. */

import { Fragment, type ReactNode } from "react";

export function Markdown({ text }: { text: string }) {
  return <div className="markdown">{blocks(text.slice(0, 100_000))}</div>;
}

function blocks(text: string): ReactNode[] {
  const lines = text.split("\n");
  const found: ReactNode[] = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at]!;
    const key = at;
    if (/^\s*```/.test(line)) {
      const code: string[] = [];
      while (++at < lines.length && !/^\s*```/.test(lines[at]!)) code.push(lines[at]!);
      at++;
      found.push(<pre key={key}>{code.join("\n")}</pre>);
    } else if (/^#{1,4} /.test(line)) {
      const level = line.indexOf(" ");
      const words = inline(line.slice(level + 1));
      found.push(level === 1 ? <h4 key={key}>{words}</h4> : <h5 key={key}>{words}</h5>);
      at++;
    } else if (/^\s*([-*]|\d+\.) /.test(line)) {
      const ordered = /^\s*\d/.test(line);
      const items: ReactNode[] = [];
      while (at < lines.length && /^\s*([-*]|\d+\.) /.test(lines[at]!)) items.push(<li key={at}>{inline(lines[at++]!.replace(/^\s*([-*]|\d+\.) /, ""))}</li>);
      found.push(ordered ? <ol key={key}>{items}</ol> : <ul key={key}>{items}</ul>);
    } else if (/^> /.test(line)) {
      found.push(<blockquote key={key}>{inline(line.slice(2))}</blockquote>);
      at++;
    } else if (!line.trim()) {
      at++;
    } else {
      const words: string[] = [];
      while (at < lines.length && lines[at]!.trim() && !/^(#{1,4} |\s*```|\s*([-*]|\d+\.) |> )/.test(lines[at]!)) words.push(lines[at++]!);
      found.push(<p key={key}>{inline(words.join("\n"))}</p>);
    }
  }
  return found;
}

const SPAN = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\(([^)\s]+)\)/g;

function inline(text: string): ReactNode[] {
  const found: ReactNode[] = [];
  let from = 0;
  for (const match of text.matchAll(SPAN)) {
    if (match.index > from) found.push(text.slice(from, match.index));
    const [whole, code, strong, weak, label, target] = match;
    const key = match.index;
    if (code !== undefined) found.push(<code key={key}>{code}</code>);
    else if (strong !== undefined) found.push(<strong key={key}>{strong}</strong>);
    else if (weak !== undefined) found.push(<em key={key}>{weak}</em>);
    else if (target !== undefined && /^https?:\/\//i.test(target)) found.push(<a key={key} href={target} target="_blank" rel="noreferrer noopener">{label}</a>);
    else found.push(<Fragment key={key}>{whole}</Fragment>);
    from = match.index + whole.length;
  }
  if (from < text.length) found.push(text.slice(from));
  return found;
}
