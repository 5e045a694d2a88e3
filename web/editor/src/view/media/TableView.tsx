/** TableView: a table that is sorted, searched, and drawn as a chart. It is loaded when there is one to show. */

import "../../style/table.css";

import { useMemo, useState } from "react";

import { useT } from "../../i18n/t";
import { dumpJson } from "../../model/json";
import { numbersIn, sorted, type Table } from "../../model/table";
import { Chart } from "./Chart";

const ROWS = 300;
const COLUMNS = 40;
/** Shorter ones are seen whole. */
const SEARCHED = 8;

export default function TableView({ table, length }: { table: Table; length?: number }) {
  const t = useT();
  const [words, setWords] = useState("");
  const [by, setBy] = useState<{ column: number; down: boolean } | null>(null);
  const [drawn, setDrawn] = useState(false);
  const numbers = useMemo(() => numbersIn(table), [table]);
  const found = useMemo(() => {
    const wanted = words.toLowerCase();
    const rows = wanted ? table.rows.filter((row) => row.some((cell) => written(cell).toLowerCase().includes(wanted))) : table.rows;
    return by ? sorted(rows, by.column, by.down) : rows;
  }, [table, words, by]);
  const turn = (column: number): void => setBy(by?.column !== column ? { column, down: false } : by.down ? null : { column, down: true });
  const total = Math.max(length ?? 0, table.rows.length);
  const chartable = numbers.length > 0 && table.rows.length > 1;
  return (
    <div className="tabular nodrag nowheel scrolls">
      <header>
        <span className="quiet">{t("table.size", { rows: words ? `${found.length} / ${total}` : total, columns: table.columns.length })}</span>
        {table.rows.length > SEARCHED && <input type="search" value={words} placeholder={t("search")} aria-label={t("table.search")} onChange={(event) => setWords(event.target.value)} onKeyDown={(event) => event.stopPropagation()} />}
        {chartable && <button aria-pressed={drawn} onClick={() => setDrawn(!drawn)}>{t("table.chart")}</button>}
      </header>
      {drawn && chartable ? <Chart table={{ ...table, rows: found }} numbers={numbers} /> : (
        <div className="cells" tabIndex={0} role="region" aria-label={t("table.size", { rows: total, columns: table.columns.length })}>
          <table>
            <thead>
              <tr>
                {table.columns.slice(0, COLUMNS).map((name, column) => (
                  <th key={column} className={numbers.includes(column) ? "figure" : ""} aria-sort={by?.column !== column ? "none" : by.down ? "descending" : "ascending"}>
                    <button onClick={() => turn(column)}>{name}{by?.column === column ? (by.down ? " ↓" : " ↑") : ""}</button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, ROWS).map((row, index) => (
                <tr key={index}>{row.slice(0, COLUMNS).map((cell, column) => <td key={column} className={numbers.includes(column) ? "figure" : ""}>{written(cell)}</td>)}</tr>
              ))}
            </tbody>
          </table>
          {total > Math.min(found.length, ROWS) && !words && <p className="quiet">… {total - Math.min(found.length, ROWS)}</p>}
        </div>
      )}
    </div>
  );
}

function written(cell: unknown): string {
  if (typeof cell === "number" && !Number.isInteger(cell)) return String(Number(cell.toPrecision(7)));
  return typeof cell === "object" && cell !== null ? dumpJson(cell) : String(cell ?? "");
}
