import { memo } from "react";
import { useItem } from "../../model/hooks.ts";
import type { Item } from "../../protocol/view.ts";
import { ApprovalCard } from "../approvals/ApprovalCard.tsx";
import { QuestionCard } from "../approvals/QuestionCard.tsx";
import { Markdown } from "../../ui/Markdown.tsx";
import { Artifacts } from "./Artifacts.tsx";
import { Custom, End, ErrorRow, Notice, Plan } from "./plainrows.tsx";
import { Prompt } from "./Prompt.tsx";
import { Thinking } from "./Thinking.tsx";
import { ToolCard } from "./ToolCard.tsx";

export const Row = memo(function Row({ chatId, item: key }: { chatId: string; item: string }) {
  const item = useItem(chatId, key);
  if (!item) return null;
  return (
    <div className="row" data-row={item.is}>
      <Content chatId={chatId} item={item} />
    </div>
  );
});

function Content({ chatId, item }: { chatId: string; item: Item }) {
  switch (item.is) {
    case "prompt":
      return <Prompt event={item.event} />;
    case "text":
      return <Markdown text={item.text} open={item.open} />;
    case "thinking":
      return <Thinking item={item} />;
    case "tool":
      return <ToolCard chatId={chatId} item={item} />;
    case "approval":
      return <ApprovalCard item={item} />;
    case "question":
      return <QuestionCard item={item} />;
    case "plan":
      return <Plan entries={item.entries} />;
    case "notice":
      return <Notice item={item} />;
    case "artifacts":
      return <Artifacts files={item.files} job={item.job} />;
    case "custom":
      return <Custom event={item.event} />;
    case "error":
      return <ErrorRow event={item.event} />;
    case "end":
      return <End event={item.event} />;
  }
}
