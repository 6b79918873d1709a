# The tests of Windows: what CMakeLists.txt beside this runs on Unix, as far as it is not Unix' own. Cross-built they run under Wine
# (CMAKE_CROSSCOMPILING_EMULATOR); scripts/windows-test starts that first.
set(TEST_ENVIRONMENT PORTALOCKD=$<TARGET_FILE:portalockd> BUILD_DIR=${PROJECT_BINARY_DIR})

file(GLOB SUPPORT_SOURCES CONFIGURE_DEPENDS support/*.c support/win/*.c)
list(FILTER SUPPORT_SOURCES EXCLUDE REGEX "(oslock_fake|client_fixture|restarts|descriptions_real)\\.c$")
add_library(test_support STATIC ${SUPPORT_SOURCES})
target_include_directories(test_support PUBLIC support ../daemon/os)
target_link_libraries(test_support PUBLIC pl_table PkgConfig::CMOCKA PRIVATE PkgConfig::CJSON PkgConfig::UV)

# portalock_test SOURCE LABEL TIMEOUT ARGUMENT...
function(portalock_test source label timeout)
        get_filename_component(name ${source} NAME_WE)
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE test_support pl_table pl_daemon_os pl_protocol PkgConfig::CMOCKA)
        add_test(NAME ${label}.${name} COMMAND ${name} ${ARGN})
        set_tests_properties(${label}.${name} PROPERTIES TIMEOUT ${timeout} LABELS ${label} ENVIRONMENT "${TEST_ENVIRONMENT}")
endfunction()

foreach(label unit contract)
        file(GLOB sources CONFIGURE_DEPENDS ${label}/test_*.c)
        list(FILTER sources EXCLUDE REGEX "(_unix|test_transport)\\.c$")      # Unix' folders, links and sockets
        foreach(source ${sources})
                portalock_test(${source} ${label} 120)
        endforeach()
endforeach()
foreach(name test_frame test_json test_json_arena test_message test_pool test_reply test_table_memory)      # these fail every allocation in turn (support/starve.h)
        target_link_options(${name} PRIVATE -Wl,--wrap=malloc,--wrap=realloc,--wrap=calloc)
endforeach()
target_sources(test_lane PRIVATE ../daemon/lane.c ../daemon/os/win/thread.c)
target_include_directories(test_lane PRIVATE ../daemon)
target_sources(test_state PRIVATE ../daemon/state.c ../daemon/lane.c ../daemon/log.c)
target_include_directories(test_state PRIVATE ../daemon)
target_sources(test_account PRIVATE ../daemon/account.c)
target_include_directories(test_account PRIVATE ../daemon)
target_sources(test_labels PRIVATE ../daemon/labels.c)
target_include_directories(test_labels PRIVATE ../daemon)
target_sources(test_session PRIVATE ../daemon/session.c ../daemon/account.c ../daemon/turns.c ../daemon/log.c)
target_include_directories(test_session PRIVATE ../daemon)

set(PORTALOCK_MODEL_STEPS 1000000 CACHE STRING "Steps of the table's random walk")
portalock_test(model/walk.c model 600 --steps ${PORTALOCK_MODEL_STEPS})
file(GLOB sources CONFIGURE_DEPENDS model/*.c)
target_sources(walk PRIVATE ${sources})

# What lies below the daemon and the library on Windows alone.
file(GLOB sources CONFIGURE_DEPENDS windows/test_*.c)
foreach(source ${sources})
        portalock_test(${source} windows 120)
        get_filename_component(name ${source} NAME_WE)
        target_include_directories(${name} PRIVATE ../protocol/os/win)
endforeach()
target_link_options(test_conversions PRIVATE -Wl,--wrap=__imp_LockFileEx)       # the pointer by which the DLL's function is called

include(${CMAKE_CURRENT_LIST_DIR}/windows/client/client.cmake)
# The tests of tests/integration are Linux programs; a relay under Wine connects them with a daemon there.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(relay windows/relay.c)
target_link_libraries(relay PRIVATE PkgConfig::UV)
target_link_options(relay PRIVATE -municode)
add_executable(outsider windows/outsider.c)
target_link_options(outsider PRIVATE -municode)
set(WIRE_ENVIRONMENT PORTALOCKD=$<TARGET_FILE:portalockd> PORTALOCK_RELAY=$<TARGET_FILE:relay> PORTALOCK_OUTSIDER=$<TARGET_FILE:outsider> PYTHONDONTWRITEBYTECODE=1)

# portalock_wire_test SOURCE: with the relay, under the name that it has on Unix.
function(portalock_wire_test source)
        get_filename_component(name ${source} NAME_WE)
        add_test(NAME wire.${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
        set_tests_properties(wire.${name} PROPERTIES TIMEOUT 400 LABELS wire ENVIRONMENT "${WIRE_ENVIRONMENT}")
endfunction()

foreach(name test_protocol test_limits test_locking)
        portalock_wire_test(integration/${name}.py)
endforeach()
file(GLOB sources RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS windows/test_*.py)
foreach(source ${sources})
        portalock_wire_test(${source})
endforeach()
