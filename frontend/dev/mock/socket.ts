/** The chat socket of the mock. */
import { randomUUID } from "node:crypto";
import type { WebSocket } from "ws";
import { runJob } from "./script.ts";
import type { Json, World } from "./world.ts";
import { ME } from "./world.ts";

export function follow(world: World, peer: WebSocket): void {
  const followed = new Map<string, (frame: Json) => void>();
  const send = (frame: Json): void => peer.send(JSON.stringify(frame));
  const leave = (id: string): void => {
    const session = world.sessions.get(id);
    const tell = followed.get(id);
    if (!session || !tell) return;
    session.viewers.delete(tell);
    followed.delete(id);
    for (const other of session.viewers) other({ type: "viewers", chatId: id, viewers: session.viewers.size });
  };
  peer.on("close", () => [...followed.keys()].forEach(leave));
  peer.on("message", (data: Buffer) => {
    const frame = JSON.parse(data.toString("utf8")) as Json & { type: string; chatId?: string };
    if (frame.type === "ping") return send({ type: "pong" });
    const session = world.sessions.get(frame.chatId ?? "");
    if (!session) return send({ type: "rejected", ref: frame.clientMessageId ?? frame.chatId, code: "not_found", message: "No such session." });
    if (frame.type === "unsubscribe") return leave(session.id);
    if (frame.type === "subscribe") {
      const tell = (one: Json): void => send(one);
      followed.set(session.id, tell);
      session.viewers.add(tell);
      const ours = frame.epoch === undefined || frame.epoch === world.epoch;
      const after = ours ? Number(frame.after) : 0;
      const count = (type: string): unknown[] => world.pending(session, type).map((one) => one.event.approvalId ?? one.event.questionId);
      send({ type: "subscribed", chatId: session.id, epoch: world.epoch, oldest: 1, head: session.log.length, gap: !ours, running: session.job !== undefined, pendingApprovals: count("approval_required"), pendingQuestions: count("question"), viewers: session.viewers.size });
      for (const event of session.log.slice(after)) send(event);
      send({ type: "caught_up", chatId: session.id, seq: session.log.length });
      for (const other of session.viewers) other({ type: "viewers", chatId: session.id, viewers: session.viewers.size });
    }
    if (frame.type === "interrupt") session.interrupted = true;
    if (frame.type === "set_mode") {
      session.mode = String(frame.mode);
      world.append(session, { type: "session_update", mode: session.mode });
    }
    if (frame.type === "chat") {
      if (session.log.some((one) => one.type === "chat" && one.clientMessageId === frame.clientMessageId)) return;
      const steer = frame.steer === true && session.job !== undefined;
      const job = steer ? session.job : randomUUID();
      world.append(session, { type: "chat", jobId: job, message: frame.message, by: ME, clientMessageId: frame.clientMessageId, ...(steer ? { steer: true } : {}) });
      if (!steer) void runJob(world, session, job ?? "", String(frame.message));
    }
  });
}
