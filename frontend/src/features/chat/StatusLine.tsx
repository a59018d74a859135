import type { Live } from "../../model/feed.ts";
import type { Session } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";
import { cost, tokens } from "../../ui/words.ts";

/** Model, tokens and cost of the job, context in use. */
export function StatusLine({ live, session }: { live: Live | undefined; session: Session | undefined }) {
  const view = live?.view;
  const usage = view?.usage;
  const model = view?.model ?? session?.model;
  const context = view?.context;
  return (
    <div className="statusline" data-testid="usage">
      {model ? (
        <span>
          {view?.demo ? "demo model" : plain(model)}
        </span>
      ) : null}
      {usage ? (
        <>
          <span title={`${usage.cacheReadTokens} read from cache, ${usage.cacheWriteTokens} written`}>
            {tokens(usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens)} in · {tokens(usage.outputTokens)} out
          </span>
          <span title={usage.measured === "proxy" ? "Measured by the proxy" : "Reported by the agent"}>
            {cost(usage.totalCost)} this job
          </span>
        </>
      ) : null}
      {session && session.totalCost > 0 ? <span>{cost(session.totalCost)} in all</span> : null}
      {context && context.max > 0 ? <span>context {Math.round((100 * context.used) / context.max)} %</span> : null}
    </div>
  );
}
