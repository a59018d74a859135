/** What components ask for. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { useStore } from "zustand";
import type { Session } from "../net/api.ts";
import type { Item } from "../protocol/view.ts";
import { api, client, http, store } from "../wiring.ts";
import type { Live } from "./feed.ts";
import type { State } from "./store.ts";

export const useLiveState = <T>(pick: (state: State) => T): T => useStore(store, pick);

export const useMe = (enabled = true) =>
  useQuery({
    queryKey: ["me"],
    enabled,
    queryFn: async ({ signal }) => {
      const me = await api.me(signal);
      http.csrf = me.csrf;
      return me;
    },
    staleTime: 60_000,
  });

export const useSessions = (enabled = true) =>
  useInfiniteQuery({
    enabled,
    queryKey: ["sessions"],
    queryFn: ({ signal, pageParam }) => api.sessions(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next ?? undefined,
    // A session that came while pages were read may stand on two of them.
    select: ({ pages }) => [...new Map(pages.flatMap((page) => page.items).map((one) => [one.id, one])).values()],
    refetchInterval: 5_000,
  });

/** One session: from the list, or, for whoever follows a share link and has no list, by itself. */
export function useOneSession(id: string, alone: boolean): { session: Session | undefined; settled: boolean } {
  const list = useSessions(!alone);
  const one = useQuery({
    queryKey: ["sessions", id],
    queryFn: ({ signal }) => api.session(id, signal),
    enabled: alone,
    refetchInterval: 5_000,
  });
  if (alone) return { session: one.data, settled: one.isError };
  return { session: list.data?.find((each) => each.id === id), settled: list.data !== undefined && !list.isFetching };
}

export function useFollow(chatId: string): Live | undefined {
  useEffect(() => client.follow(chatId), [chatId]);
  return useStore(store, (state) => state.lives.get(chatId));
}

/** One row of a session; a component that reads it renders again only when that row changed. */
export const useItem = (chatId: string, key: string): Item | undefined =>
  useStore(store, (state) => state.lives.get(chatId)?.view.items.get(key));
