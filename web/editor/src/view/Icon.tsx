/** Icon: line drawings of 20 by 20. */

const PATHS = {
  play: "M6 4.5v11l9-5.5z",
  stop: "M5.5 5.5h9v9h-9z",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5L5 15",
  nodes: "M3.5 4.5h5v4h-5zM11.5 11.5h5v4h-5zM8.5 6.5h3a2 2 0 0 1 2 2v3",
  flows: "M4 3.5h8l4 4v9H4zM12 3.5v4h4M7 11h6M7 13.7h4",
  runs: "M10 3.5a6.5 6.5 0 1 1-6 4M4 3.5v4h4M10 6.5V10l2.5 2",
  models: "M10 3l6.5 3.5v7L10 17l-6.5-3.5v-7zM3.5 6.5L10 10l6.5-3.5M10 10v7",
  chat: "M3.5 4.5h13v9h-7l-3.5 3v-3h-2.5z",
  gear: "M10 7.3a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4zM10 2.8v2M10 15.2v2M2.8 10h2M15.2 10h2M4.9 4.9l1.4 1.4M13.7 13.7l1.4 1.4M15.1 4.9l-1.4 1.4M6.3 13.7l-1.4 1.4",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M10 14.3v.2M10 17.2a7.2 7.2 0 1 0 0-14.4 7.2 7.2 0 0 0 0 14.4z",
  warn: "M10 3.5l7 12.5H3zM10 8v4M10 13.8v.2",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM13 13l4 4",
  fit: "M3.5 7.5v-4h4M16.5 7.5v-4h-4M3.5 12.5v4h4M16.5 12.5v4h-4",
  minus: "M4 10h12",
  map: "M3.5 4.5h13v11h-13zM10.5 9.5h4v4h-4z",
  down: "M5.5 7.5L10 12l4.5-4.5",
  right: "M7.5 5.5L12 10l-4.5 4.5",
  file: "M5.5 3.5h6l3 3v10h-9zM11.5 3.5v3h3",
  send: "M3.5 10l13-6-4 13-3-5.5z",
  clip: "M14 8.5l-5 5a2.3 2.3 0 0 1-3.3-3.3l5.8-5.8a3.5 3.5 0 0 1 5 5l-6 6",
  mic: "M10 3a2 2 0 0 1 2 2v4a2 2 0 0 1-4 0V5a2 2 0 0 1 2-2zM5.5 9a4.5 4.5 0 0 0 9 0M10 13.5V17",
  pin: "M7 3.5h6l-1 5 2.5 2.5h-9L8 8.5zM10 11v6",
  save: "M4 3.5h9.5l2.5 2.5v10.5H4zM7 3.5v4h5v-4M7 16.5v-5h6v5",
  layout: "M3.5 3.5h4v4h-4zM3.5 12.5h4v4h-4zM12.5 8h4v4h-4zM7.5 5.5h2.5v9H7.5M10 10h2.5",
  trash: "M4.5 6h11M8 6V4h4v2M6 6l.7 10.5h6.6L14 6",
  dice: "M4 4h12v12H4zM7.2 7.2h.1M12.8 7.2h.1M10 10h.1M7.2 12.8h.1M12.8 12.8h.1",
  expand: "M11.5 3.5h5v5M8.5 16.5h-5v-5M16 4l-5 5M4 16l5-5",
  enter: "M3.5 3.5h13v13h-13zM7 10h6M10.5 7.5L13 10l-2.5 2.5",
  folder: "M3 5.5h5l1.5 2H17v8.5H3z",
  compare: "M3.5 5h5v10h-5zM11.5 5h5v10h-5zM10 3v14",
  check: "M4 10.5l4 4 8-9",
  brush: "M16.5 3.5c-4 1.5-6.5 4-8.5 7l2 2c3-2 5.5-4.5 6.5-9zM7.5 11.5c-2 0-3 1.2-3 3 0 .8-.5 1.5-1.5 2 3.5.5 6-.7 6-3.5z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  const solid = name === "play" || name === "stop";
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" fill={solid ? "currentColor" : "none"} stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round">
      <path d={PATHS[name]} />
    </svg>
  );
}
