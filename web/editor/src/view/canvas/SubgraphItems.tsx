/** SubgraphItems: what a node's menu offers besides: of an instance, and of a node in a subgraph what to show outside. */

import { useT } from "../../i18n/t";
import { promotedAs } from "../../model/expose";
import { hasField, inputsOf } from "../../model/nodetype";
import { definitionOf, isBorder } from "../../model/subgraph";
import { command, COMMANDS } from "../../state/commands";
import { server } from "../../state/server";
import { current, enter, togglePromoted } from "../../state/subgraphs";
import { here } from "../../state/workspace";

const OFFERED = 12;

export function SubgraphItems({ id, item }: { id: string; item: (key: string, label: string, run: () => void, keys?: string) => React.ReactNode }) {
  const t = useT();
  const node = here().nodes[id];
  const { catalog } = server.get();
  if (!node) return null;
  const instance = definitionOf(node) !== undefined;
  const inputs = current() === undefined || isBorder(id) ? [] : inputsOf(catalog.of(node), node).filter((input) => promotedAs(node, input.name) !== undefined || (node.links?.[input.name] === undefined && (hasField(catalog, input) || !node.links)));
  if (!instance && !inputs.length) return null;
  return (
    <>
      {inputs.slice(0, OFFERED).map((input) =>
        item(`promote ${input.name}`, t(promotedAs(node, input.name) === undefined ? "sub.promote" : "sub.unpromote", { name: input.widget?.label ?? input.name }), () => togglePromoted(id, input.name)),
      )}
      {inputs.length > 0 && <hr />}
      {instance && item("enter", t("cmd.sub.enter"), () => enter(id), COMMANDS.find((one) => one.id === "sub.enter")?.keys)}
      {instance && ["sub.unpack", "sub.detach", "sub.ports", "sub.publish"].map((name) => {
        const found = COMMANDS.find((one) => one.id === name)!;
        return item(name, t(found.word), () => command(name), found.keys);
      })}
      {instance && <hr />}
    </>
  );
}
