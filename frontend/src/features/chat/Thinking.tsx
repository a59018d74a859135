import { UnstyledButton } from "@mantine/core";
import { ChevronDown, ChevronRight } from "lucide-react";
import { useId, useState } from "react";
import type { TextItem } from "../../protocol/view.ts";

export function Thinking({ item }: { item: TextItem }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  return (
    <div className="think" data-testid="thinking">
      <UnstyledButton onClick={() => setOpen(!open)} aria-expanded={open} aria-controls={id}>
        {open ? <ChevronDown size={14} /> : <ChevronRight size={14} />}
        {item.open ? "Thinking…" : "Thought"}
      </UnstyledButton>
      {open ? (
        <div className="body" id={id}>
          {item.text}
        </div>
      ) : null}
    </div>
  );
}
