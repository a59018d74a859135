/** The HTTP API: same origin, cookie, CSRF token, problem documents turned into errors that can be shown. */

export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

export class Http {
  /** From `GET /api/me`; every request that changes something carries it. */
  csrf = "";

  /** `root` is where the page lives, so that a sub-path works. */
  constructor(readonly root: string) {}

  url(path: string): string {
    return new URL(path, this.root).href;
  }

  async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return (await (await this.request("GET", path, undefined, signal)).json()) as T;
  }

  async text(path: string): Promise<string> {
    return (await this.request("GET", path)).text();
  }

  /** An answer that goes on until it is left. */
  async stream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.request("GET", path, undefined, signal, "text/event-stream");
    return body ?? new ReadableStream({ start: (end) => end.close() });
  }

  async send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
    const answer = await this.request(method, path, body);
    const text = await answer.text();
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  private async request(method: string, path: string, body?: unknown, signal?: AbortSignal, accept = "application/json"): Promise<Response> {
    const headers: Record<string, string> = { accept };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (method !== "GET") {
      headers["x-csrf-token"] = this.csrf;
      headers["idempotency-key"] = crypto.randomUUID();
    }
    const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store", redirect: "error" };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (signal) init.signal = signal;
    let answer: Response;
    try {
      answer = await fetch(this.url(path), init);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new HttpError(0, "unreachable", "The server cannot be reached.");
    }
    if (!answer.ok) throw await problem(answer);
    return answer;
  }
}

async function problem(answer: Response): Promise<HttpError> {
  const fallback = `The server answered ${answer.status}.`;
  try {
    const body = (await answer.json()) as Record<string, unknown>;
    const words = [body.detail, body.title].find((one) => typeof one === "string" && one !== "");
    const code = typeof body.code === "string" ? body.code : "error";
    return new HttpError(answer.status, code, typeof words === "string" ? words : fallback, body);
  } catch {
    return new HttpError(answer.status, "error", fallback);
  }
}

export const sayError = (error: unknown): string => (error instanceof Error ? error.message : "Something went wrong.");
