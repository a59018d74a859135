/** The one place where the parts meet: HTTP, socket, store, queries. */
import { QueryClient } from "@tanstack/react-query";
import { makeApi } from "./net/api.ts";
import { Http, HttpError } from "./net/http.ts";
import { Client } from "./model/client.ts";
import { makeStore } from "./model/store.ts";

// The document's address without file and fragment: relative, so that a sub-path works.
const root = new URL(".", document.baseURI);
const socketUrl = new URL("ws", root);
socketUrl.protocol = root.protocol === "https:" ? "wss:" : "ws:";

export const http = new Http(root.href);
export const api = makeApi(http);
export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      retry: (failures, error) => failures < 2 && !(error instanceof HttpError && error.status > 0 && error.status < 500),
    },
  },
});
export const store = makeStore();
export const client = new Client(
  store,
  socketUrl.href,
  () => void queries.invalidateQueries({ queryKey: ["me"] }),
  (chatIds) => {
    if (chatIds.length > 0) void queries.invalidateQueries({ queryKey: ["sessions"] });
  },
  ({ id, chatId, message, permissionMode, pictures = [] }) =>
    api.createJob(chatId, {
      prompt: message,
      clientMessageId: id,
      ...(permissionMode ? { permissionMode } : {}),
      attachments: pictures.map(({ name, mediaType, data }) => ({ name, mediaType, data })),
    }),
);

window.addEventListener("online", () => client.socket.hurry());
document.addEventListener("visibilitychange", () => document.hidden || client.socket.hurry());
