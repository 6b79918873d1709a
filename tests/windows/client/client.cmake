# The library and lockctl on Windows: their own programs, and Python programs that run where the tests run (under Linux with Wine) and start ours.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(name recipe counter arguments)
        add_executable(${name} windows/client/${name}.c)
endforeach()
target_link_options(arguments PRIVATE -municode)
target_link_libraries(counter PRIVATE portalock_shared)         # the DLL works too
add_custom_command(TARGET counter POST_BUILD COMMAND ${CMAKE_COMMAND} -E copy_if_different $<TARGET_FILE:portalock_shared> $<TARGET_FILE_DIR:counter>)

file(GLOB sources CONFIGURE_DEPENDS windows/client/test_*.c)
foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        add_executable(${name} ${source} windows/client/process.c)
        target_link_libraries(${name} PRIVATE portalock PkgConfig::CMOCKA)
        add_test(NAME windows.${name} COMMAND ${name})
        set_tests_properties(windows.${name} PROPERTIES TIMEOUT 120 LABELS windows ENVIRONMENT "${TEST_ENVIRONMENT};LOCKCTL=$<TARGET_FILE:lockctl>")
endforeach()

set(CLIENT_ENVIRONMENT ${TEST_ENVIRONMENT} WINE=${CMAKE_CROSSCOMPILING_EMULATOR} LOCKCTL=$<TARGET_FILE:lockctl> RECIPE=$<TARGET_FILE:recipe>
        ARGUMENTS=$<TARGET_FILE:arguments> COUNTER=$<TARGET_FILE:counter> PORTALOCK_DLL=$<TARGET_FILE:portalock_shared>
        PORTALOCK_STATIC=$<TARGET_FILE:portalock> EXAMPLE=$<TARGET_FILE:example_windows_loop> OBJDUMP=${CMAKE_OBJDUMP} NM=${CMAKE_NM} PYTHONDONTWRITEBYTECODE=1)
file(GLOB sources CONFIGURE_DEPENDS windows/client/test_*.py)
foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        add_test(NAME windows.${name} COMMAND ${Python3_EXECUTABLE} ${source})
        set_tests_properties(windows.${name} PROPERTIES TIMEOUT 300 LABELS windows ENVIRONMENT "${CLIENT_ENVIRONMENT}")
endforeach()
if(NOT CMAKE_CROSSCOMPILING)    # Windows itself has no terminals of that kind
        set_tests_properties(windows.test_keys PROPERTIES DISABLED ON)
endif()
