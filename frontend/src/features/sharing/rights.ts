/** What the reader may do in the session on the page. The server decides; this only hides what it would refuse. */
import { createContext, useContext } from "react";
import type { Right } from "../../net/api.ts";

export const ALL_RIGHTS: readonly Right[] = ["read", "run", "approve", "admin"];

const Rights = createContext<readonly Right[]>(ALL_RIGHTS);

export const RightsHere = Rights.Provider;
export const useRights = (): readonly Right[] => useContext(Rights);
