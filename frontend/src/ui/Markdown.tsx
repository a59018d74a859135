import { memo, useMemo } from "react";
import type { ReactNode } from "react";
import ReactMarkdown from "react-markdown";
import type { Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { splitBlocks } from "../protocol/blocks.ts";
import { CopyButton } from "./CopyButton.tsx";

const PLUGINS = [remarkGfm];

/** http and https only; everything else (javascript:, data:, file:, relative) is no link at all. */
const safeUrl = (url: string): string => (/^https?:\/\//i.test(url) ? url : "");

/** The text of a rendered code block. */
function textOf(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  if (Array.isArray(node)) return node.map((one: ReactNode) => textOf(one)).join("");
  if (node !== null && typeof node === "object" && "props" in node)
    return textOf((node.props as { children?: ReactNode }).children);
  return "";
}

function languageOf(node: ReactNode): string {
  if (node === null || typeof node !== "object" || !("props" in node)) return "";
  const { className } = node.props as { className?: string };
  return /language-(\S+)/.exec(className ?? "")?.[1] ?? "";
}

const COMPONENTS: Components = {
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow" title={href}>
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  // Loading an address that the model wrote would tell somebody that, and what, was read.
  img: ({ alt, src }) =>
    typeof src === "string" && src !== "" ? (
      <a href={src} target="_blank" rel="noopener noreferrer nofollow" title={src}>
        [image{alt ? `: ${alt}` : ""}]
      </a>
    ) : (
      <span>[image{alt ? `: ${alt}` : ""}]</span>
    ),
  pre: ({ children }) => (
    <div className="code" data-language={languageOf(children) || undefined}>
      <div className="codehead">
        <span>{languageOf(children)}</span>
        <CopyButton text={() => textOf(children)} label="Copy the code" />
      </div>
      {/* A wide block scrolls, so the keyboard must reach it. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0}>{children}</pre>
    </div>
  ),
  table: ({ children }) => (
    <div className="tablebox">
      <table>{children}</table>
    </div>
  ),
};

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS} urlTransform={safeUrl}>
      {text}
    </ReactMarkdown>
  );
});

/** Finished blocks keep their elements while the last one grows. */
export const Markdown = memo(function Markdown({ text, open = false }: { text: string; open?: boolean }) {
  const blocks = useMemo(() => splitBlocks(text), [text]);
  return (
    <div className="md" data-testid="message-text" data-open={open || undefined}>
      {blocks.map((block, i) => (
        <Block key={i} text={block} />
      ))}
    </div>
  );
});
