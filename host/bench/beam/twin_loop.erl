%% Swapped by twin_swap: a loop that calls itself by its full name, so that its
%% next turn is in the newest code. VERSION is set when it is compiled.
-module(twin_loop).
-export([start/0, loop/1, upgrade/2]).
-ifndef(VERSION).
-define(VERSION, 1).
-endif.

start() -> spawn(?MODULE, loop, [0]).

loop(Count) ->
    receive
        {ask, From} ->
            %% Handled in the newest code, though it came to an older one.
            ?MODULE:upgrade(From, Count)
    end.

upgrade(From, Count) ->
    From ! {answer, ?VERSION},
    ?MODULE:loop(Count + 1).
