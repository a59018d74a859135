import { ActionIcon, TextInput } from "@mantine/core";
import { ChevronDown, ChevronUp, X } from "lucide-react";
import { useEffect, useState } from "react";
import type { Screen } from "./screen.ts";

export function Search({ screen, onClose }: { screen: Screen; onClose: () => void }) {
  const [text, type] = useState("");
  const [found, find] = useState({ at: 0, of: 0 });
  useEffect(() => {
    const off = screen.found((at, of) => find({ at, of }));
    return () => {
      off();
      screen.findNothing();
    };
  }, [screen]);
  const go = (wanted: string, back: boolean): void => {
    if (wanted === "") screen.findNothing();
    else screen.find(wanted, back);
  };
  return (
    <form
      className="terminalsearch" role="search" aria-label="In the terminal"
      onSubmit={(event) => (event.preventDefault(), go(text, false))}
    >
      <TextInput
        size="xs" aria-label="Search in the terminal" placeholder="Search…" value={text} data-autofocus data-testid="terminal-search-text"
        ref={(input) => input?.focus()}
        onChange={(event) => (type(event.currentTarget.value), go(event.currentTarget.value, true))}
        onKeyDown={(event) => {
          if (event.key === "Enter" && event.shiftKey) {
            event.preventDefault();
            go(text, true);
          }
          if (event.key !== "Escape") return;
          event.preventDefault();
          onClose();
        }}
      />
      <span className="quiet" role="status">
        {text === "" ? "" : found.of === 0 ? "Nothing found" : `${found.at} of ${found.of}`}
      </span>
      <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Before" onClick={() => go(text, true)}>
        <ChevronUp size={15} />
      </ActionIcon>
      <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Next" onClick={() => go(text, false)}>
        <ChevronDown size={15} />
      </ActionIcon>
      <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Close the search" onClick={onClose}>
        <X size={15} />
      </ActionIcon>
    </form>
  );
}
