import { Loader, UnstyledButton } from "@mantine/core";
import { Brain, Check, ChevronDown, ChevronRight, CircleSlash, FilePen, FileText, Globe, Move, Search, Terminal, Trash2, TriangleAlert, UserRoundCheck, Wrench } from "lucide-react";
import { memo, useId, useState } from "react";
import { useItem } from "../../model/hooks.ts";
import type { ToolKind } from "../../protocol/events.ts";
import { plain } from "../../protocol/reveal.ts";
import type { ToolItem } from "../../protocol/view.ts";
import { DiffView } from "../../ui/DiffView.tsx";
import { ExactBox } from "../../ui/Exact.tsx";
import { FullText } from "../../ui/FullText.tsx";
import { fieldsOf, summaryOf } from "../../ui/input.ts";

const ICONS: Record<ToolKind, typeof Wrench> = {
  read: FileText, edit: FilePen, delete: Trash2, move: Move, search: Search, execute: Terminal, think: Brain, fetch: Globe, other: Wrench,
};

const STATES = {
  running: { words: "running", icon: <Loader size={12} /> },
  waiting: { words: "waiting", icon: <UserRoundCheck size={14} /> },
  done: { words: "done", icon: <Check size={14} /> },
  error: { words: "failed", icon: <TriangleAlert size={14} /> },
  refused: { words: "not performed", icon: <CircleSlash size={14} /> },
  stopped: { words: "stopped", icon: <CircleSlash size={14} /> },
};

export const ToolCard = memo(function ToolCard({ chatId, item }: { chatId: string; item: ToolItem }) {
  // A change of files is what the reader came for; the rest opens on demand.
  const [chosen, choose] = useState<boolean>();
  const open = chosen ?? (item.diff?.length ?? 0) > 0;
  const id = useId();
  const Icon = ICONS[item.kind];
  const status = item.refused ? "refused" : item.status;
  const state = STATES[status];
  const what = whatOf(item);
  return (
    <section className="tool" data-testid="tool-card" data-tool={item.tool} data-status={status} aria-label={`Tool ${item.tool}`}>
      <UnstyledButton className="toolhead" onClick={() => choose(!open)} aria-expanded={open} aria-controls={id} data-testid="tool-toggle">
        <Icon size={16} aria-hidden="true" />
        <span className="name ellipsis">{plain(item.tool)}</span>
        <span className="what ellipsis">{what}</span>
        <span className="state" data-status={status}>
          {state.icon}
          <span>{state.words}</span>
        </span>
        {open ? <ChevronDown size={15} /> : <ChevronRight size={15} />}
      </UnstyledButton>
      {open ? <Body item={item} id={id} /> : null}
      {item.children.length > 0 ? (
        <div className="nested">
          {item.children.map((key) => (
            <Nested key={key} chatId={chatId} item={key} />
          ))}
        </div>
      ) : null}
    </section>
  );
});

/** A command is told by itself; other calls by the agent's title, without the tool's name a second time. */
function whatOf(item: ToolItem): string {
  const summary = plain(summaryOf(item.input));
  if (item.kind === "execute" && summary) return summary;
  const title = plain(item.title ?? "");
  const prefix = `${plain(item.tool)}: `;
  return (title.startsWith(prefix) ? title.slice(prefix.length) : title) || summary || plain(item.path ?? "");
}

function Nested({ chatId, item: key }: { chatId: string; item: string }) {
  const item = useItem(chatId, key);
  return item?.is === "tool" ? <ToolCard chatId={chatId} item={item} /> : null;
}

function Body({ item, id }: { item: ToolItem; id: string }) {
  const hasDiff = item.diff !== undefined && item.diff.length > 0;
  const { truncated } = item;
  return (
    <div className="toolbody" id={id}>
      {hasDiff ? item.diff?.map((diff, i) => <DiffView key={i} diff={diff} />) : null}
      {hasDiff && item.status === "done" ? null : (
        <div className="fields" data-testid="tool-input">
          {fieldsOf(item.input).map((field) => (
            <div key={field.name} className="field">
              <div className="label">{field.name}</div>
              <ExactBox text={field.text} limited label={field.name} />
            </div>
          ))}
          {truncated.input ? <FullText cut={truncated.input} name="input" /> : null}
        </div>
      )}
      {item.output !== "" && item.result === undefined ? <Part name="Output so far" text={item.output} testid="tool-output" /> : null}
      {item.result !== undefined && !(hasDiff && item.status === "done") ? (
        <div>
          <Part name={item.status === "error" ? "Error" : "Result"} text={item.result === "" ? "(nothing)" : item.result} testid="tool-result" />
          {truncated.result ? <FullText cut={truncated.result} name="result" /> : null}
        </div>
      ) : null}
    </div>
  );
}

function Part({ name, text, testid }: { name: string; text: string; testid: string }) {
  return (
    <div className="field" data-testid={testid}>
      <div className="label">{name}</div>
      <ExactBox text={text} limited label={name} />
    </div>
  );
}
