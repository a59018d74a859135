/**
 * Server-sent events: text in as it comes, messages out. A message is lines of `field: value` up to an empty line;
 * `data` may come in several lines, a line that begins with a colon is a sign of life, and a part of a message that the
 * end of the stream cut off is none.
 */
export interface Message {
  event: string;
  id: string;
  data: string;
}

export class SseReader {
  private rest = "";
  private event = "";
  private id = "";
  private data: string[] = [];

  take(text: string): Message[] {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.line(line.endsWith("\r") ? line.slice(0, -1) : line));
  }

  private line(line: string): Message[] {
    if (line === "") return this.end();
    const [, field, value] = /^([^:]*):? ?(.*)$/su.exec(line) ?? [];
    if (field === "data") this.data.push(value ?? "");
    if (field === "event") this.event = value ?? "";
    if (field === "id") this.id = value ?? "";
    return [];
  }

  private end(): Message[] {
    const { event, id, data } = this;
    this.event = "";
    this.data = [];
    return data.length === 0 ? [] : [{ event: event || "message", id, data: data.join("\n") }];
  }
}
